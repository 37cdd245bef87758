import { Inject, Injectable } from '@nestjs/common';
import { ClientKafka } from '@nestjs/microservices';
import type { RecordMetadata } from 'kafkajs';
import { lastValueFrom } from 'rxjs';
import { isRefusedWith } from '@platform/kafka';
import { ChosenPartitions } from './chosen-partitions';
import { EventPublisher, EventRefused } from './event-publisher';
import { type StoredEvent, toMessage } from './stored-event';
import { TOPIC } from './topic';

/** Injection token of the Nest Kafka client. */
export const KAFKA_CLIENT = Symbol('KAFKA_CLIENT');

/** Broker errors that no retry can fix. */
const REFUSALS = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD']);

@Injectable()
export class KafkaPublisher extends EventPublisher {
  constructor(
    @Inject(KAFKA_CLIENT) private readonly client: ClientKafka,
    private readonly partitions: ChosenPartitions,
    @Inject(TOPIC) private readonly topic: string,
  ) {
    super();
  }

  async connect(): Promise<void> {
    await this.client.connect();
  }

  /** One request at a time: kafkajs misnumbers an idempotent producer's batches when sends overlap (kafkajs#598). */
  async publish(events: readonly StoredEvent[]): Promise<void> {
    try {
      this.partitions.clear();
      const batch = { messages: events.map(toMessage) };
      const acknowledged = await lastValueFrom(this.client.emitBatch<RecordMetadata[]>(this.topic, batch));
      this.partitions.assertAcknowledged(acknowledged);
    } catch (error) {
      // After a failure the producer's sequence numbers are wrong, also for partitions that accepted their part:
      // whatever it sent next would be out of sequence. The next send creates a new producer.
      await this.client.close().catch(() => undefined);
      throw isRefusedWith(error, REFUSALS) ? new EventRefused('Kafka refuses the event', { cause: error }) : error;
    }
  }
}
