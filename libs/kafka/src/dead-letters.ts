import type { IHeaders } from 'kafkajs';

/** A message that a consumer gave up on, and why. */
export interface DeadLetter {
  /** The message as it was received. */
  readonly message: { readonly key: Buffer | null; readonly value: Buffer | null; readonly headers: IHeaders };
  readonly topic: string;
  readonly partition: number;
  readonly offset: string;
  /** Name of the consumer that gave up. */
  readonly consumer: string;
  readonly reason: string;
  readonly attempts: number;
}

/** Keeps messages that a consumer gave up on, so that it can go on with the messages after them. */
export abstract class DeadLetters {
  /** Resolves once the letter is stored. After a rejection the message must not count as consumed. */
  abstract send(letter: DeadLetter): Promise<void>;
}
