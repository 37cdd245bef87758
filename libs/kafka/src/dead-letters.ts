import type { IHeaders } from 'kafkajs';

/** A message that a consumer gave up on, and why. */
export interface DeadLetter {
  /** The message as it came: key, value and headers are not touched. */
  readonly message: { readonly key: Buffer | null; readonly value: Buffer | null; readonly headers: IHeaders };
  readonly topic: string;
  readonly partition: number;
  readonly offset: string;
  /** Which consumer gave up. */
  readonly consumer: string;
  readonly reason: string;
  readonly attempts: number;
}

/** Where messages go that a consumer gave up on, so that those behind them can go on. */
export abstract class DeadLetters {
  /** Resolves when the letter is kept. After a rejection the message must not count as consumed. */
  abstract send(letter: DeadLetter): Promise<void>;
}
