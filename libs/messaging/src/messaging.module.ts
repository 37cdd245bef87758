import { type DynamicModule, Module, type Provider, type Type } from '@nestjs/common';
import { ClientsModule, Transport } from '@nestjs/microservices';
import { CONFIG, type Config } from '@platform/config';
import { HealthChecks } from '@platform/health';
import { DeadLetterGauge, DeadLetters, KafkaDeadLetters, kafkaOptions } from '@platform/kafka';
import { Spans } from '@platform/tracing';
import { getToken, makeCounterProvider, makeGaugeProvider } from '@willsoto/nestjs-prometheus';
import type { Gauge } from 'prom-client';
import { ChosenPartitions } from './chosen-partitions';
import { DeadLetterParking } from './dead-letter-parking';
import { EventConsumer } from './event-consumer';
import { EventPublisher } from './event-publisher';
import { Inbox } from './inbox';
import { InProcessPublisher } from './in-process-publisher';
import { InProcessServer } from './in-process-server';
import { KafkaEventServer } from './kafka-event-server';
import { KAFKA_CLIENT, KafkaPublisher } from './kafka-publisher';
import { OutboxRelay } from './outbox-relay';
import { TOPIC } from './topic';
import { TracedPublisher } from './traced-publisher';

const metrics = [
  makeGaugeProvider({ name: 'outbox_backlog', help: 'Events that wait in the outbox' }),
  makeGaugeProvider({ name: 'outbox_oldest_age_seconds', help: 'Age of the oldest event that waits in the outbox' }),
  makeGaugeProvider({ name: 'outbox_parked', help: 'Aggregates parked because an event of theirs was refused' }),
  makeGaugeProvider({
    name: 'consumer_oldest_age_seconds',
    help: 'Age of the oldest event that waits in Kafka to be consumed',
    labelNames: ['topic', 'partition'],
  }),
  makeCounterProvider({
    name: 'events_published_total',
    help: 'Events that arrived at their destination',
    labelNames: ['type'],
  }),
  makeCounterProvider({
    name: 'events_consumed_total',
    help: 'Events that a consumer has handled',
    labelNames: ['type', 'outcome'],
  }),
];

/** Wraps the publisher in tracing only if spans are exported. */
function publisherAs(transport: Type<EventPublisher>): Provider {
  return {
    provide: EventPublisher,
    inject: [CONFIG, transport, Spans, TOPIC],
    useFactory: (config: Config, publisher: EventPublisher, spans: Spans, topic: string) =>
      config.spans ? new TracedPublisher(publisher, spans, config, topic) : publisher,
  };
}

/** Injection token of the transport that delivers events to `@OnEvents` handlers. */
export const EVENT_SERVER = Symbol('EVENT_SERVER');

/** Relays the outbox and delivers events to consumers: through Kafka if it is configured, otherwise in-process. */
@Module({})
export class MessagingModule {
  /** @param topic receives every event of the service, keyed by aggregate id */
  static forRoot(config: Config, topic: string): DynamicModule {
    const { kafka } = config;
    const common = [...metrics, { provide: TOPIC, useValue: topic }, OutboxRelay, EventConsumer, Inbox];
    if (!kafka) {
      return {
        module: MessagingModule,
        global: true,
        providers: [
          ...common,
          InProcessServer,
          { provide: EVENT_SERVER, useExisting: InProcessServer },
          InProcessPublisher,
          publisherAs(InProcessPublisher),
          { provide: DeadLetters, useClass: DeadLetterParking },
        ],
        exports: [EventConsumer],
      };
    }
    const partitions = new ChosenPartitions();
    return {
      module: MessagingModule,
      global: true,
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
        ...common,
        { provide: ChosenPartitions, useValue: partitions },
        {
          provide: EVENT_SERVER,
          inject: [HealthChecks, getToken('consumer_oldest_age_seconds')],
          useFactory: (checks: HealthChecks, oldestAge: Gauge) => new KafkaEventServer(kafka, checks, oldestAge),
        },
        KafkaPublisher,
        publisherAs(KafkaPublisher),
        { provide: DeadLetters, useFactory: () => new KafkaDeadLetters(kafka) },
        makeGaugeProvider({
          name: 'dead_letter_records',
          help: 'Records that the dead letter topic holds: above 0 while a letter is open',
        }),
        {
          provide: DeadLetterGauge,
          inject: [getToken('dead_letter_records')],
          useFactory: (records: Gauge) => new DeadLetterGauge(kafka, topic, records),
        },
      ],
      exports: [EventConsumer],
    };
  }
}
