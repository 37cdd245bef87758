import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '@platform/config';
import type { Admin, IHeaders, Kafka, KafkaMessage, Producer } from 'kafkajs';
import { headerText, markerHeaders, originalHeaders, writableHeaders } from './dead-letter-headers';
import { PRODUCER_OPTIONS, quietKafka } from './kafka-options';

const ANSWERS_WITHIN_MS = 8_000;
const LONGEST_SILENCE_MS = 10_000;
const LOOK_AGAIN_MS = 50;

/** A letter that is neither replayed nor dropped. */
export interface OpenLetter {
  /** `PARTITION:OFFSET` in the dead letter topic. */
  readonly id: string;
  readonly partition: number;
  readonly offset: bigint;
  /** When it was written. */
  readonly time: Date;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  /** With what was added to them, `dlq-…`. Whoever else writes to the topic may have left that out. */
  readonly headers: IHeaders;
  /** The topic that its message came from. */
  readonly origin: string | undefined;
}

interface Partition {
  /** Where it begins: what was before is deleted. */
  readonly low: bigint;
  /** The first offset that was not read. */
  end: bigint;
  /** By id, in the order of their offsets. */
  readonly open: Map<string, OpenLetter>;
  /** The last letter that is resolved and may still be in the topic, because it stands behind an open one. */
  lastResolved: bigint;
}

/**
 * What is in a dead letter topic. A topic cannot delete one record, so a letter is resolved by a marker: a record that
 * names it. Markers stand in the partition of their letter and behind it, so that retention never takes one and leaves
 * its letter, which would be open again.
 */
export class DeadLetterBox {
  private readonly partitions = new Map<number, Partition>();

  private constructor(
    private readonly topic: string,
    private readonly admin: Admin,
    private readonly producer: Producer,
  ) {}

  /**
   * Reads the topic as it stands, all of it into memory.
   * @throws {Error} one line, when Kafka is away, the topic does not exist or cannot be read to its end
   */
  static async open(settings: NonNullable<Config['kafka']>, topic: string): Promise<DeadLetterBox> {
    const kafka = quietKafka(settings);
    const box = new DeadLetterBox(topic, kafka.admin(), kafka.producer(PRODUCER_OPTIONS));
    try {
      await box.connect(settings.brokers);
      await box.read(kafka, `${settings.consumerGroup}-dlq-${randomUUID()}`);
      return box;
    } catch (error) {
      // Not waited for: kafkajs says goodbye to a broker, and one that is silent lets it wait.
      box.close().catch(() => undefined);
      throw error;
    }
  }

  /** Those of each partition, and so those of each key, in the order in which they were written. */
  get letters(): OpenLetter[] {
    return [...this.partitions.values()].flatMap(({ open }) => [...open.values()]);
  }

  /** Publishes the message to its origin again, as it was, and resolves the letter when it has arrived there. */
  async replay(letter: OpenLetter): Promise<void> {
    const { origin, key, value, headers } = letter;
    if (origin === undefined) throw new Error(`${letter.id} does not say where it came from (dlq-topic)`);
    await this.producer.send({
      topic: origin,
      acks: -1,
      messages: [{ key, value, headers: originalHeaders(headers) }],
    });
    await this.resolve(letter, 'replayed');
  }

  async drop(letter: OpenLetter): Promise<void> {
    await this.resolve(letter, 'dropped');
  }

  /**
   * Writes letters anew that are to say something else, and deletes for good what they said, and what is resolved. All open
   * letters of such a partition are written anew, in their order, because only its beginning can be deleted. Two that do
   * this at once undo each other's work: the caller sees to it that there is one.
   * @param change what the value is to be; undefined leaves it, null takes the letter away
   * @returns how many were changed
   */
  async rewrite(change: (letter: OpenLetter) => Buffer | null | undefined): Promise<number> {
    let changed = 0;
    for (const { open, lastResolved } of this.partitions.values()) {
      const letters = [...open.values()].map((letter) => ({ letter, value: change(letter) }));
      const count = letters.filter(({ value }) => value !== undefined).length;
      const isResolvedBehind = lastResolved > (letters[0]?.letter.offset ?? lastResolved);
      if (count === 0 && !isResolvedBehind) continue;
      for (const { letter, value } of letters) {
        if (value !== null) await this.append(letter, value ?? letter.value);
        await this.resolve(letter, 'rewritten');
      }
      changed += count;
    }
    await this.deleteResolved();
    return changed;
  }

  /** Deletes for good what is resolved, up to the first open letter of each partition. */
  async deleteResolved(): Promise<void> {
    const ends = [...this.partitions].flatMap(([partition, { low, end, open }]) => {
      const [first] = open.values();
      const offset = first?.offset ?? end;
      return offset > low ? [{ partition, offset: String(offset) }] : [];
    });
    if (ends.length > 0) await this.admin.deleteTopicRecords({ topic: this.topic, partitions: ends });
  }

  async close(): Promise<void> {
    await Promise.all([this.producer.disconnect(), this.admin.disconnect()]);
  }

  private async connect(brokers: readonly string[]): Promise<void> {
    const silence = delay(ANSWERS_WITHIN_MS, undefined, { ref: false }).then(() => {
      throw new Error(`no answer for ${ANSWERS_WITHIN_MS / 1_000} s`);
    });
    const connected = Promise.all([this.producer.connect(), this.admin.connect()]).then(() => this.admin.listTopics());
    const topics = await Promise.race([connected, silence]).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`Kafka cannot be reached at ${brokers.join(', ')}: ${reason}`, { cause: error });
    });
    if (!topics.includes(this.topic)) throw new Error(`The topic ${this.topic} does not exist`);
  }

  private async read(kafka: Kafka, groupId: string): Promise<void> {
    const unread = new Map<number, bigint>();
    for (const { partition, low, high } of await this.admin.fetchTopicOffsets(this.topic)) {
      this.partitions.set(partition, { low: BigInt(low), end: BigInt(low), open: new Map(), lastResolved: -1n });
      if (low !== high) unread.set(partition, BigInt(high));
    }
    if (unread.size === 0) return;
    const consumer = kafka.consumer({
      groupId,
      allowAutoTopicCreation: false,
      maxWaitTimeInMs: 100, // it cannot be stopped while it waits
      retry: { retries: 8 }, // a broker's first group waits for the topic of the groups' offsets
    });
    let crash: Error | undefined;
    let readAt: number;
    consumer.on(consumer.events.CRASH, ({ payload: { error, restart } }) => {
      // What may pass, for example that the groups' coordinator is just starting, kafkajs tries again by itself.
      if (!restart) crash = error;
    });
    // Says the last offset also of what never reaches `eachBatch`: the end of a transaction.
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload: { partition, lastOffset } }) => {
      readAt = performance.now();
      if (BigInt(lastOffset) + 1n >= (unread.get(partition) ?? 0n)) unread.delete(partition);
    });
    try {
      await consumer.connect();
      await consumer.subscribe({ topics: [this.topic], fromBeginning: true });
      await consumer.run({
        autoCommit: false,
        eachBatch: async ({ batch }) => {
          for (const message of batch.messages) this.take(batch.partition, message);
        },
      });
      readAt = performance.now();
      while (unread.size > 0) {
        if (crash) throw crash;
        if (performance.now() - readAt > LONGEST_SILENCE_MS) {
          throw new Error(
            `${this.topic} could not be read to its end: nothing came for ${LONGEST_SILENCE_MS / 1_000} s`,
          );
        }
        await delay(LOOK_AGAIN_MS);
        // What we wait for may be deleted by now, and then it never comes.
        for (const { partition, low } of await this.admin.fetchTopicOffsets(this.topic)) {
          if (BigInt(low) >= (unread.get(partition) ?? 0n)) unread.delete(partition);
        }
      }
    } finally {
      await consumer.disconnect();
      await this.admin.deleteGroups([groupId]).catch(() => undefined); // in time the broker does it
    }
  }

  private take(partition: number, { offset: text, timestamp, key, value, headers = {} }: KafkaMessage): void {
    const box = this.partitions.get(partition);
    const offset = BigInt(text);
    // A consumer that has to join its group anew begins anew.
    if (!box || offset < box.end) return;
    box.end = offset + 1n;
    const resolves = headerText(headers, 'dlq-resolves');
    if (resolves !== undefined) {
      noteResolved(box, resolves);
      return;
    }
    const id = `${partition}:${offset}`;
    const origin = headerText(headers, 'dlq-topic');
    box.open.set(id, { id, partition, offset, time: new Date(Number(timestamp)), key, value, headers, origin });
  }

  private async append(letter: OpenLetter, value: Buffer | null): Promise<void> {
    const { partition, key, time } = letter;
    const headers = writableHeaders(letter.headers);
    const message = { partition, key, value, headers, timestamp: String(time.getTime()) };
    const [written] = await this.producer.send({ topic: this.topic, acks: -1, messages: [message] });
    const box = this.partitions.get(partition);
    if (!box || written?.baseOffset !== String(box.end)) return; // something came in between, as in `resolve`
    const id = `${partition}:${box.end}`;
    box.open.set(id, { ...letter, id, offset: box.end, value });
    box.end += 1n;
  }

  private async resolve(letter: OpenLetter, resolution: 'replayed' | 'dropped' | 'rewritten'): Promise<void> {
    const { id, partition } = letter;
    const [marker] = await this.producer.send({
      topic: this.topic,
      acks: -1,
      messages: [{ partition, key: null, value: null, headers: markerHeaders(id, resolution, new Date()) }],
    });
    const box = this.partitions.get(partition);
    if (!box) return;
    noteResolved(box, id);
    // Else something came in between that we have not read, and must not delete.
    if (marker?.baseOffset === String(box.end)) box.end += 1n;
  }
}

function noteResolved(partition: Partition, id: string): void {
  const letter = partition.open.get(id);
  if (!letter) return;
  partition.open.delete(id);
  if (letter.offset > partition.lastResolved) partition.lastResolved = letter.offset;
}
