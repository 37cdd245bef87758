import { Injectable } from '@nestjs/common';
import { type DeadLetter, DeadLetters } from '@platform/kafka';
import { EventRefused } from './event-publisher';

/** Without Kafka, dead letters stay in the outbox: the relay parks the aggregate of an event that is refused. */
@Injectable()
export class DeadLetterParking extends DeadLetters {
  /** @throws {EventRefused} always */
  async send({ reason }: DeadLetter): Promise<never> {
    throw new EventRefused(reason);
  }
}
