import '@platform/kafka'; // without it kafkajs stops at the first batch in zstd, which other tests send
import { type Consumer, Kafka, logLevel } from 'kafkajs';
import { ORDERS_TOPIC } from '../../apps/order-service/src/orders-topic';
import { pieces } from './pieces';

export interface TopicMessage {
  readonly partition: number;
  readonly offset: string;
  readonly key: string;
  readonly value: string;
  readonly headers: Record<string, string>;
}

/** Everything in a topic, as a consumer of its own sees it. */
export class Topic {
  readonly messages: TopicMessage[] = [];
  private consumer: Consumer;
  private name: string;

  /** Reads from the beginning, so that nothing is missed while the group forms. */
  static async read(brokers = pieces().kafkaBrokers, name = ORDERS_TOPIC): Promise<Topic> {
    const topic = new Topic();
    topic.name = name;
    // As the service: by itself kafkajs would wait for 30 s for an answer that was lost.
    const kafka = new Kafka({ brokers: [brokers ?? ''], requestTimeout: 10_000, logLevel: logLevel.NOTHING });
    topic.consumer = kafka.consumer({
      groupId: `test-${Math.random()}`,
      sessionTimeout: 6_000, // a broker that came back waits this long for the members that it knew
      heartbeatInterval: 1_000,
      maxWaitTimeInMs: 250, // meanwhile it cannot be stopped, and has no heartbeat: by default for 5 s
      retry: { retries: 60, maxRetryTime: 1_000 },
    });
    await topic.consumer.connect();
    await topic.consumer.subscribe({ topics: [name], fromBeginning: true });
    const seen = new Set<string>();
    await topic.consumer.run({
      eachMessage: async ({ partition, message }) => {
        // A group that forms again, since a member was late, hears once more what it had not committed.
        const position = `${partition} ${message.offset}`;
        if (seen.has(position)) return;
        seen.add(position);
        const headers = Object.entries(message.headers ?? {}).map(([name, value]) => [name, String(value)] as const);
        topic.messages.push({
          partition,
          offset: message.offset,
          key: String(message.key),
          value: String(message.value),
          headers: Object.fromEntries(headers),
        });
      },
    });
    return topic;
  }

  about(orderId: string): TopicMessage[] {
    return this.messages.filter(({ key }) => key === orderId);
  }

  /** Reads nothing meanwhile: reading takes about as much of the processor as publishing does. */
  async whilePaused(work: () => Promise<unknown>): Promise<void> {
    this.consumer.pause([{ topic: this.name }]);
    await work();
    this.consumer.resume([{ topic: this.name }]);
  }

  async close(): Promise<void> {
    await this.consumer.disconnect();
  }
}

/** `describe`, if there is a broker. */
export const describeWithKafka = pieces().kafkaBrokers ? describe : describe.skip;

/** `describe`, where a test can start a broker of its own. */
export const describeWithOwnBroker = pieces().canStartBroker ? describe : describe.skip;
