import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '@platform/config';
import type { Admin } from 'kafkajs';
import { quietKafka } from './kafka-options';
import { deadLetterTopicOf } from './topics';

/** Long enough for somebody to look. Letters that were not replayed by then are lost. */
const DEAD_LETTER_RETENTION_MS = 30 * 24 * 3_600_000;
/** Kafka deletes segments as a whole, when the newest record is old enough, and by default begins one a week. */
const DEAD_LETTER_SEGMENT_MS = 24 * 3_600_000;
/**
 * Twice the broker's default: a letter is a message with some more headers, and has to fit if its message fitted. A
 * message that was compressed may be larger still; a letter that is too large is kept without its message.
 */
const DEAD_LETTER_BYTES = 2 * 1_048_588;
const READY_WITHIN_MS = 10_000;

interface TopicLayout {
  /** Fixed for the life of the topic: adding partitions later would move keys and so break the order of events. */
  readonly partitions: number;
  /** -1 for the broker's default. */
  readonly replicationFactor: number;
}

/**
 * Creates a topic and its dead letter topic, unless they exist.
 * @returns number of partitions of each, by topic name, as they are afterwards
 */
export async function createTopics(
  kafka: NonNullable<Config['kafka']>,
  topic: string,
  { partitions, replicationFactor }: TopicLayout,
): Promise<Map<string, number>> {
  const layout = { numPartitions: partitions, replicationFactor };
  // Otherwise a broker may be configured to recompress everything with a codec that kafkajs cannot read.
  const asItCame = { name: 'compression.type', value: 'producer' };
  const topics = [
    { topic, ...layout, configEntries: [asItCame] },
    {
      topic: deadLetterTopicOf(topic),
      ...layout,
      configEntries: [
        asItCame,
        { name: 'cleanup.policy', value: 'delete' },
        { name: 'retention.ms', value: String(DEAD_LETTER_RETENTION_MS) },
        { name: 'segment.ms', value: String(DEAD_LETTER_SEGMENT_MS) },
        { name: 'max.message.bytes', value: String(DEAD_LETTER_BYTES) },
      ],
    },
  ];
  const admin = quietKafka(kafka).admin();
  await admin.connect().catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`Kafka cannot be reached at ${kafka.brokers.join(', ')}: ${reason}`, { cause: error });
  });
  try {
    await admin.createTopics({ topics, waitForLeaders: false });
    const counts = new Map<string, number>();
    for (const { topic: name } of topics) counts.set(name, await untilReady(admin, name));
    return counts;
  } finally {
    await admin.disconnect();
  }
}

/**
 * Waits until the brokers serve a new topic, which is a moment after the controller created it. kafkajs only waits
 * until leaders are elected, and fails if a broker does not know the topic yet.
 * @returns number of partitions
 */
async function untilReady(admin: Admin, topic: string): Promise<number> {
  const deadline = performance.now() + READY_WITHIN_MS;
  for (;;) {
    try {
      return (await admin.fetchTopicOffsets(topic)).length;
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await delay(100);
  }
}
