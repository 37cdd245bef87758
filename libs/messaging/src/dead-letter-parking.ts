import { Injectable } from '@nestjs/common';
import { type DeadLetter, DeadLetters } from '@platform/kafka';
import { EventRefused } from './event-publisher';

/** Without Kafka the outbox keeps the dead letters: the relay parks what is refused, with all that follows it. */
@Injectable()
export class DeadLetterParking extends DeadLetters {
  /** @throws {EventRefused} always */
  async send({ reason }: DeadLetter): Promise<never> {
    throw new EventRefused(reason);
  }
}
