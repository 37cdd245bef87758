import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '@platform/config';
import type { Admin } from 'kafkajs';
import { quietKafka } from './kafka-options';
import { deadLetterTopicOf } from './topics';

/** Long enough that somebody looks: what was not replayed by then is gone. */
const DEAD_LETTER_RETENTION_MS = 30 * 24 * 3_600_000;
/**
 * Twice the broker's default. A letter is its message and some headers more, so that one which just fits into its own topic
 * fits here too. What came compressed is larger by itself, and a letter that is too large is kept without its message.
 */
const DEAD_LETTER_BYTES = 2 * 1_048_588;
const READY_WITHIN_MS = 10_000;

interface TopicLayout {
  /** Fixed for the life of the topic: adding partitions later would move keys and so break the order of events. */
  readonly partitions: number;
  /** -1 is the broker's own default. */
  readonly replicationFactor: number;
}

/**
 * Creates a topic that the service publishes to, and that of its dead letters, where they do not stand yet.
 * @returns partitions of each topic as it stands afterwards, by its name
 */
export async function createTopics(
  kafka: NonNullable<Config['kafka']>,
  topic: string,
  { partitions, replicationFactor }: TopicLayout,
): Promise<Map<string, number>> {
  const layout = { numPartitions: partitions, replicationFactor };
  // Else a broker can be told to compress all that it takes, with what kafkajs cannot read.
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
        { name: 'max.message.bytes', value: String(DEAD_LETTER_BYTES) },
      ],
    },
  ];
  const admin = quietKafka(kafka).admin();
  await admin.connect();
  try {
    await admin.createTopics({ topics, waitForLeaders: false });
    const standing = new Map<string, number>();
    for (const { topic: name } of topics) standing.set(name, await untilReady(admin, name));
    return standing;
  } finally {
    await admin.disconnect();
  }
}

/**
 * Brokers take up a new topic a moment after the controller made it. kafkajs waits for leaders to be named, but not until
 * they serve, and it takes a broker that does not know the topic at all for an error.
 * @returns partitions of the topic
 */
async function untilReady(admin: Admin, topic: string): Promise<number> {
  for (const deadline = performance.now() + READY_WITHIN_MS; ; await delay(100)) {
    try {
      return (await admin.fetchTopicOffsets(topic)).length;
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
  }
}
