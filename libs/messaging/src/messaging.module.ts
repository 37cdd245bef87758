import { type DynamicModule, Module } from '@nestjs/common';
import { ClientsModule, Transport } from '@nestjs/microservices';
import type { Config } from '@platform/config';
import { makeCounterProvider, makeGaugeProvider } from '@willsoto/nestjs-prometheus';
import { ChosenPartitions } from './chosen-partitions';
import { EventPublisher } from './event-publisher';
import { InProcessPublisher } from './in-process-publisher';
import { InProcessServer } from './in-process-server';
import { kafkaOptions } from './kafka-options';
import { KAFKA_CLIENT, KafkaPublisher } from './kafka-publisher';
import { OutboxRelay } from './outbox-relay';

const metrics = [
  makeGaugeProvider({ name: 'outbox_backlog', help: 'Events that wait in the outbox' }),
  makeGaugeProvider({ name: 'outbox_oldest_age_seconds', help: 'Age of the oldest event that waits in the outbox' }),
  makeGaugeProvider({ name: 'outbox_parked', help: 'Aggregates parked because an event of theirs was refused' }),
  makeCounterProvider({
    name: 'events_published_total',
    help: 'Events that arrived at their destination',
    labelNames: ['type'],
  }),
];

/** Relays the outbox: to Kafka where brokers are configured, else to the handlers in the same process. */
@Module({})
export class MessagingModule {
  static forRoot(config: Config): DynamicModule {
    const { kafka } = config;
    if (!kafka) {
      return {
        module: MessagingModule,
        providers: [
          ...metrics,
          OutboxRelay,
          InProcessServer,
          { provide: EventPublisher, useClass: InProcessPublisher },
        ],
      };
    }
    const partitions = new ChosenPartitions();
    return {
      module: MessagingModule,
      imports: [
        ClientsModule.register([
          {
            name: KAFKA_CLIENT,
            transport: Transport.KAFKA,
            options: {
              client: kafkaOptions(kafka),
              producerOnlyMode: true,
              producer: {
                idempotent: true,
                maxInFlightRequests: 1,
                allowAutoTopicCreation: false,
                createPartitioner: partitions.createPartitioner,
              },
              send: { acks: -1 },
            },
          },
        ]),
      ],
      providers: [
        ...metrics,
        OutboxRelay,
        { provide: ChosenPartitions, useValue: partitions },
        { provide: EventPublisher, useClass: KafkaPublisher },
      ],
    };
  }
}
