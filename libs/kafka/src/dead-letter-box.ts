import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '@platform/config';
import type { Admin, Consumer, EachBatchPayload, IHeaders, Kafka, KafkaMessage, Producer } from 'kafkajs';
import { headerText, markerHeaders, oneLine, originalHeaders, writableHeaders } from './dead-letter-headers';
import { PRODUCER_OPTIONS, quietKafka } from './kafka-options';
import { deadLetterTopicOf } from './topics';

const ANSWERS_WITHIN_MS = 8_000;
const MAX_SILENCE_MS = 10_000;
const POLL_MS = 50;
/** The latest time that a `Date` can represent. */
const LATEST_MS = 8.64e15;

/** A record of a dead letter topic that is not a marker. It is open until it is replayed, dropped or rewritten. */
export interface Letter {
  /** `PARTITION:OFFSET` in the dead letter topic. */
  readonly id: string;
  readonly partition: number;
  /** When it was written. */
  readonly time: Date;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  /** Including the `dlq-…` headers, unless the letter was written by somebody else. */
  readonly headers: IHeaders;
  /** The topic that its message came from. */
  readonly origin: string | undefined;
}

interface Partition {
  /** Its first offset: earlier records are deleted. */
  readonly low: bigint;
  /** The offset after the last record that was read. */
  end: bigint;
  /** Offsets of the open letters, ascending. */
  readonly open: Set<bigint>;
}

type TakeRecord = (partition: number, message: KafkaMessage) => void | Promise<void>;

/** The state of reading a topic once. */
interface Reading {
  /** Where to stop in each partition (exclusive), until that is reached. */
  readonly unread: Map<number, bigint>;
  /** The next offset of each partition. */
  readonly next: Map<number, bigint>;
  isTaking: boolean;
  /** When something was last read, by `performance.now()`. */
  readAt: number;
  failure?: { readonly error: unknown };
}

/**
 * The content of a dead letter topic. Kafka cannot delete a single record, so a letter is resolved by a marker, a
 * record that names it. The marker is written to the letter's partition, after it: so retention never deletes a marker
 * before its letter, which would be open again.
 *
 * Only the offsets of letters are kept in memory, however many there are. Everything else reads the letters again.
 */
export class DeadLetterBox {
  private readonly partitions = new Map<number, Partition>();
  private readonly admin: Admin;
  private readonly producer: Producer;

  /** @param groupPrefix of the ids of the consumer groups: each read uses a new one */
  private constructor(
    private readonly topic: string,
    private readonly kafka: Kafka,
    private readonly groupPrefix: string,
    private readonly beforeChange: () => Promise<unknown>,
  ) {
    this.admin = kafka.admin();
    this.producer = kafka.producer(PRODUCER_OPTIONS);
  }

  /**
   * Reads the whole topic.
   * @param visit called with each letter, open or resolved, in the order of each partition
   * @param beforeChange called before each change of a letter, and before resolved letters are deleted; if it rejects,
   *   the change is not made, and the caller gets its error
   * @throws {Error} with a one-line message, if Kafka is unavailable or the topic is missing or not readable to its end
   */
  static async open(
    settings: NonNullable<Config['kafka']>,
    topic: string,
    visit: (letter: Letter) => void = () => undefined,
    beforeChange: () => Promise<unknown> = async () => undefined,
  ): Promise<DeadLetterBox> {
    const box = new DeadLetterBox(topic, quietKafka(settings), `${settings.consumerGroup}-dlq-`, beforeChange);
    try {
      await box.connect(settings.brokers);
      await box.readAll(visit);
      return box;
    } catch (error) {
      // Not awaited: kafkajs disconnects gracefully, and would wait for a broker that does not answer.
      box.close().catch(() => undefined);
      throw error;
    }
  }

  /** Ids of the open letters, in the order of each partition, and so of each key. */
  get ids(): string[] {
    return [...this.partitions].flatMap(([partition, { open }]) => [...open].map((offset) => `${partition}:${offset}`));
  }

  /**
   * Reads letters again and passes them to `handle` one after the other.
   * @param ids in the order of {@link ids}
   * @throws {Error} the first that `handle` throws, if a letter no longer exists, or as {@link open}
   */
  async each(ids: readonly string[], handle: (letter: Letter) => Promise<void>): Promise<void> {
    const left = new Set(ids);
    const ends = new Map(ids.map(positionOf).map(({ partition, offset }) => [partition, offset + 1n])); // the last of each partition
    await this.read(ends, async (partition, message) => {
      const id = `${partition}:${message.offset}`;
      if (left.delete(id)) await handle(toLetter(partition, message));
    });
    if (left.size > 0) throw new Error(`${[...left].join(', ')} is no longer in ${this.topic}`);
  }

  /** Publishes the original message to its topic again, and resolves the letter once Kafka has acknowledged it. */
  async replay(letter: Letter): Promise<void> {
    const obstacle = replayObstacle(letter, this.topic);
    if (obstacle !== undefined) throw new Error(`${letter.id} ${obstacle}`);
    await this.beforeChange();
    const { id, origin = '', key, value, headers } = letter;
    await this.producer.send({
      topic: origin,
      acks: -1,
      messages: [{ key, value, headers: originalHeaders(headers) }],
    });
    await this.resolve(id, 'replayed');
  }

  async drop(id: string): Promise<void> {
    await this.beforeChange();
    await this.resolve(id, 'dropped');
  }

  /**
   * Changes letters, and deletes their old content and all resolved letters for good. Only the beginning of a partition
   * can be deleted, so all open letters of such a partition are written again, in their order. Two concurrent rewrites
   * would undo each other's work: the caller has to prevent that.
   * @param partitions those with something to change, or with something resolved that is to be deleted
   * @param change returns the new value; undefined keeps the letter as it is, null removes it
   * @returns how many letters were changed
   */
  async rewrite(
    partitions: ReadonlySet<number>,
    change: (letter: Letter) => Buffer | null | undefined,
  ): Promise<number> {
    let changed = 0;
    const ids = this.ids.filter((id) => partitions.has(positionOf(id).partition));
    await this.each(ids, async (letter) => {
      await this.beforeChange();
      const value = change(letter);
      if (value !== null) await this.append(letter, value ?? letter.value);
      await this.resolve(letter.id, 'rewritten');
      if (value !== undefined) changed += 1;
    });
    await this.deleteResolved();
    return changed;
  }

  /** Deletes the resolved letters of each partition for good, up to its first open letter. */
  async deleteResolved(): Promise<void> {
    const ends = [...this.partitions].flatMap(([partition, { low, end, open }]) => {
      const [first] = open;
      const offset = first ?? end;
      return offset > low ? [{ partition, offset: String(offset) }] : [];
    });
    if (ends.length === 0) return;
    await this.beforeChange();
    await this.admin.deleteTopicRecords({ topic: this.topic, partitions: ends });
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

  private async readAll(visit: (letter: Letter) => void): Promise<void> {
    const ends = new Map<number, bigint>();
    for (const { partition, low, high } of await this.admin.fetchTopicOffsets(this.topic)) {
      this.partitions.set(partition, { low: BigInt(low), end: BigInt(low), open: new Set() });
      if (low !== high) ends.set(partition, BigInt(high));
    }
    await this.read(ends, (partition, message) => {
      const box = this.partitions.get(partition);
      if (!box) return;
      const offset = BigInt(message.offset);
      box.end = offset + 1n;
      const resolves = headerText(message.headers ?? {}, 'dlq-resolves');
      if (resolves === undefined) {
        box.open.add(offset);
        return visit(toLetter(partition, message));
      }
      const resolved = positionOf(resolves);
      if (resolved.partition === partition) box.open.delete(resolved.offset);
    });
  }

  /**
   * @param ends where to stop in each partition (exclusive); other partitions are not read
   * @param take called once for each record, and for some after the ends
   */
  private async read(ends: ReadonlyMap<number, bigint>, take: TakeRecord): Promise<void> {
    if (ends.size === 0) return;
    const groupId = `${this.groupPrefix}${randomUUID()}`;
    const consumer = this.kafka.consumer({
      groupId,
      allowAutoTopicCreation: false,
      maxWaitTimeInMs: 100, // a consumer that waits for records cannot be stopped
      retry: { retries: 8 }, // a new cluster creates its topic of offsets with its first group
    });
    const reading: Reading = { unread: new Map(ends), next: new Map(), isTaking: false, readAt: performance.now() };
    track(consumer, reading);
    try {
      await consumer.connect();
      await consumer.subscribe({ topics: [this.topic], fromBeginning: true });
      await consumer.run({ autoCommit: false, eachBatch: (payload) => takeBatch(payload, reading, take) });
      reading.readAt = performance.now();
      await this.untilRead(reading);
    } finally {
      await consumer.disconnect();
      await this.admin.deleteGroups([groupId]).catch(() => undefined); // if this fails, the broker does it in time
    }
  }

  /** @throws {Error} the failure of the reading, or that nothing comes any more */
  private async untilRead(reading: Reading): Promise<void> {
    const { unread } = reading;
    while (unread.size > 0 && !reading.failure) {
      if (!reading.isTaking && performance.now() - reading.readAt > MAX_SILENCE_MS) {
        throw new Error(`${this.topic} could not be read to its end: nothing came for ${MAX_SILENCE_MS / 1_000} s`);
      }
      await delay(POLL_MS);
      // The records that are awaited may have been deleted meanwhile.
      for (const { partition, low } of await this.admin.fetchTopicOffsets(this.topic)) {
        if (BigInt(low) >= (unread.get(partition) ?? 0n)) unread.delete(partition);
      }
    }
    if (reading.failure) throw reading.failure.error;
  }

  private async append(letter: Letter, value: Buffer | null): Promise<void> {
    const { partition, key, time, headers } = letter;
    const message = { partition, key, value, headers, timestamp: String(time.getTime()) };
    const [written] = await this.producer.send({ topic: this.topic, acks: -1, messages: [message] });
    const box = this.partitions.get(partition);
    if (!box || written?.baseOffset !== String(box.end)) return; // another record came in between: see `resolve`
    box.open.add(box.end);
    box.end += 1n;
  }

  private async resolve(id: string, resolution: 'replayed' | 'dropped' | 'rewritten'): Promise<void> {
    const { partition, offset } = positionOf(id);
    const [marker] = await this.producer.send({
      topic: this.topic,
      acks: -1,
      messages: [{ partition, key: null, value: null, headers: markerHeaders(id, resolution, new Date()) }],
    });
    const box = this.partitions.get(partition);
    if (!box) return;
    box.open.delete(offset);
    // Otherwise another record came in between, which was not read and must not be deleted.
    if (marker?.baseOffset === String(box.end)) box.end += 1n;
  }
}

/** Records how far the consumer has read, and its failure. */
function track(consumer: Consumer, reading: Reading): void {
  consumer.on(consumer.events.CRASH, ({ payload: { error, restart } }) => {
    // kafkajs restarts by itself after transient errors, for example while the group coordinator starts.
    if (!restart) reading.failure ??= { error };
  });
  // Unlike `eachBatch`, this also reports batches of control records only, such as the end of a transaction.
  consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload: { partition, lastOffset } }) => {
    reading.readAt = performance.now();
    if (BigInt(lastOffset) + 1n >= (reading.unread.get(partition) ?? 0n)) reading.unread.delete(partition);
  });
}

/** Does not reject if `take` does, as kafkajs would then start again: after that no more records are taken. */
async function takeBatch(payload: EachBatchPayload, reading: Reading, take: TakeRecord): Promise<void> {
  const { partition, messages } = payload.batch;
  for (const message of messages) {
    const offset = BigInt(message.offset);
    // A consumer that rejoins its group starts from the beginning.
    if (reading.failure || offset < (reading.next.get(partition) ?? 0n)) continue;
    reading.next.set(partition, offset + 1n);
    reading.isTaking = true;
    try {
      await take(partition, message);
    } catch (error) {
      reading.failure = { error };
    }
    reading.isTaking = false;
    reading.readAt = performance.now();
    await payload.heartbeat();
  }
}

/** Where the whole message is, if the letter does not contain all of it; undefined if it does. */
export function fullMessageLocation({ headers }: Letter): string | undefined {
  if (headers['dlq-omitted'] === undefined) return undefined;
  const [topic, partition, offset] = ['dlq-topic', 'dlq-partition', 'dlq-offset'].map((name) =>
    oneLine(headerText(headers, name) ?? '-'),
  );
  return `${topic}, partition ${partition}, offset ${offset}`;
}

/**
 * Why a letter cannot be replayed; undefined if it can. Whoever can write to the dead letter topic must not be able to
 * send messages to any topic that we may write to.
 * @param topic in which the letter is
 */
export function replayObstacle(letter: Letter, topic: string): string | undefined {
  if (letter.origin === undefined) return 'does not say where it came from (dlq-topic)';
  if (deadLetterTopicOf(letter.origin) !== topic) return `names ${oneLine(letter.origin)}, whose letters are not here`;
  const place = fullMessageLocation(letter);
  return place && `was too large to keep: its message is in ${place}`;
}

function toLetter(partition: number, message: KafkaMessage): Letter {
  const { offset, timestamp, key, value } = message;
  const headers = writableHeaders(message.headers ?? {});
  const origin = headerText(headers, 'dlq-topic');
  // Kafka accepts timestamps that are out of a Date's range.
  const time = new Date(Math.max(-LATEST_MS, Math.min(LATEST_MS, Number(timestamp))));
  return { id: `${partition}:${offset}`, partition, time, key, value, headers, origin };
}

/** Position of a letter, from its id; for a malformed id, a position that never exists. */
function positionOf(id: string): { readonly partition: number; readonly offset: bigint } {
  const [, partition = '-1', offset = '-1'] = /^(\d+):(\d+)$/.exec(id) ?? [];
  return { partition: Number(partition), offset: BigInt(offset) };
}
