import type { Config } from '@platform/config';
import { Kafka, logLevel } from 'kafkajs';
import { kafkaOptions } from './kafka-options';
import { ORDERS_TOPIC } from './topics';

interface TopicLayout {
  /** Fixed for the life of the topic: adding partitions later would move keys and so break the order of events. */
  readonly partitions: number;
  /** -1 is the broker's own default. */
  readonly replicationFactor: number;
}

/**
 * Creates the topics that the service publishes to, where they do not stand yet.
 * @returns partitions of the topic as it stands afterwards
 */
export async function createTopics(kafka: NonNullable<Config['kafka']>, layout: TopicLayout): Promise<number> {
  const admin = new Kafka({ ...kafkaOptions(kafka), logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    const topic = {
      topic: ORDERS_TOPIC,
      numPartitions: layout.partitions,
      replicationFactor: layout.replicationFactor,
    };
    await admin.createTopics({ topics: [topic], waitForLeaders: true });
    const { topics } = await admin.fetchTopicMetadata({ topics: [ORDERS_TOPIC] });
    return topics[0]?.partitions.length ?? 0;
  } finally {
    await admin.disconnect();
  }
}
