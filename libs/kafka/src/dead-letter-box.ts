import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '@platform/config';
import type { Admin, IHeaders, Kafka, KafkaMessage, Producer } from 'kafkajs';
import { headerText, markerHeaders, oneLine, originalHeaders, writableHeaders } from './dead-letter-headers';
import { PRODUCER_OPTIONS, quietKafka } from './kafka-options';

const ANSWERS_WITHIN_MS = 8_000;
const MAX_SILENCE_MS = 10_000;
const LOOK_AGAIN_MS = 50;
/** Of a Date. */
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
  /** Offsets of the open letters, in their order. */
  readonly open: Set<bigint>;
}

/**
 * What is in a dead letter topic. A topic cannot delete one record, so a letter is resolved by a marker: a record that
 * names it. Markers stand in the partition of their letter and behind it, so that retention never takes one and leaves
 * its letter, which would be open again.
 *
 * Of letters only their offsets are kept, however many there are: what else is to be done with them reads them anew.
 */
export class DeadLetterBox {
  private readonly partitions = new Map<number, Partition>();
  private readonly admin: Admin;
  private readonly producer: Producer;

  /** @param groupPrefix of the consumer groups that read the topic, each of them once */
  private constructor(
    private readonly topic: string,
    private readonly kafka: Kafka,
    private readonly groupPrefix: string,
  ) {
    this.admin = kafka.admin();
    this.producer = kafka.producer(PRODUCER_OPTIONS);
  }

  /**
   * Reads the topic as it stands.
   * @param look is shown each letter, open or resolved, those of each partition in the order in which they were written
   * @throws {Error} one line, when Kafka is away, the topic does not exist or cannot be read to its end
   */
  static async open(
    settings: NonNullable<Config['kafka']>,
    topic: string,
    look: (letter: Letter) => void = () => undefined,
  ): Promise<DeadLetterBox> {
    const box = new DeadLetterBox(topic, quietKafka(settings), `${settings.consumerGroup}-dlq-`);
    try {
      await box.connect(settings.brokers);
      await box.readAll(look);
      return box;
    } catch (error) {
      // Not waited for: kafkajs says goodbye to a broker, and one that is silent lets it wait.
      box.close().catch(() => undefined);
      throw error;
    }
  }

  /** Ids of the open letters: those of each partition, and so those of each key, in the order in which they were written. */
  get ids(): string[] {
    return [...this.partitions].flatMap(([partition, { open }]) => [...open].map((offset) => `${partition}:${offset}`));
  }

  /**
   * Reads letters again and hands out one after the other, in the same order.
   * @throws {Error} what `handle` throws first; when letters are no longer there; or as {@link open}
   */
  async each(ids: readonly string[], handle: (letter: Letter) => Promise<void>): Promise<void> {
    const left = new Set(ids);
    const ends = new Map(ids.map(positionOf).map(({ partition, offset }) => [partition, offset + 1n])); // the last of each
    await this.read(ends, async (partition, message) => {
      const id = `${partition}:${message.offset}`;
      if (left.delete(id)) await handle(toLetter(partition, message));
    });
    if (left.size > 0) throw new Error(`${[...left].join(', ')} is no longer in ${this.topic}`);
  }

  /** Publishes the message to its origin again, as it was, and resolves the letter when it has arrived there. */
  async replay(letter: Letter): Promise<void> {
    const obstacle = replayObstacle(letter);
    if (obstacle !== undefined) throw new Error(`${letter.id} ${obstacle}`);
    const { id, origin = '', key, value, headers } = letter;
    await this.producer.send({
      topic: origin,
      acks: -1,
      messages: [{ key, value, headers: originalHeaders(headers) }],
    });
    await this.resolve(id, 'replayed');
  }

  async drop(id: string): Promise<void> {
    await this.resolve(id, 'dropped');
  }

  /**
   * Writes letters anew that are to say something else, and deletes for good what they said, and what is resolved. All open
   * letters of such a partition are written anew, in their order, because only its beginning can be deleted. Two that do
   * this at once undo each other's work: the caller sees to it that there is one.
   * @param partitions where there is something to change, or something resolved that is to be deleted
   * @param change what the value is to be; undefined leaves it, null takes the letter away
   * @returns how many were changed
   */
  async rewrite(
    partitions: ReadonlySet<number>,
    change: (letter: Letter) => Buffer | null | undefined,
  ): Promise<number> {
    let changed = 0;
    const ids = this.ids.filter((id) => partitions.has(positionOf(id).partition));
    await this.each(ids, async (letter) => {
      const value = change(letter);
      if (value !== null) await this.append(letter, value ?? letter.value);
      await this.resolve(letter.id, 'rewritten');
      if (value !== undefined) changed += 1;
    });
    await this.deleteResolved();
    return changed;
  }

  /** Deletes for good what is resolved, up to the first open letter of each partition. */
  async deleteResolved(): Promise<void> {
    const ends = [...this.partitions].flatMap(([partition, { low, end, open }]) => {
      const [first] = open;
      const offset = first ?? end;
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

  private async readAll(look: (letter: Letter) => void): Promise<void> {
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
        return look(toLetter(partition, message));
      }
      const resolved = positionOf(resolves);
      if (resolved.partition === partition) box.open.delete(resolved.offset);
    });
  }

  /**
   * @param ends of each partition that is to be read, where to stop
   * @param take is given each record once, and some behind the ends
   */
  private async read(
    ends: ReadonlyMap<number, bigint>,
    take: (partition: number, message: KafkaMessage) => void | Promise<void>,
  ): Promise<void> {
    const unread = new Map(ends);
    if (unread.size === 0) return;
    const groupId = `${this.groupPrefix}${randomUUID()}`;
    const consumer = this.kafka.consumer({
      groupId,
      allowAutoTopicCreation: false,
      maxWaitTimeInMs: 100, // it cannot be stopped while it waits
      retry: { retries: 8 }, // a broker's first group waits for the topic of the groups' offsets
    });
    const next = new Map<number, bigint>();
    let failure: { readonly error: unknown } | undefined;
    let isTaking = false;
    let readAt: number;
    consumer.on(consumer.events.CRASH, ({ payload: { error, restart } }) => {
      // What may pass, for example that the groups' coordinator is just starting, kafkajs tries again by itself.
      if (!restart) failure ??= { error };
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
        eachBatch: async (payload) => {
          const { partition, messages } = payload.batch;
          for (const message of messages) {
            const offset = BigInt(message.offset);
            // A consumer that has to join its group anew begins anew.
            if (failure || offset < (next.get(partition) ?? 0n)) continue;
            next.set(partition, offset + 1n);
            isTaking = true;
            try {
              await take(partition, message);
            } catch (error) {
              failure = { error };
            }
            isTaking = false;
            readAt = performance.now();
            await payload.heartbeat();
          }
        },
      });
      readAt = performance.now();
      while (unread.size > 0 && !failure) {
        if (!isTaking && performance.now() - readAt > MAX_SILENCE_MS) {
          throw new Error(`${this.topic} could not be read to its end: nothing came for ${MAX_SILENCE_MS / 1_000} s`);
        }
        await delay(LOOK_AGAIN_MS);
        // What we wait for may be deleted by now, and then it never comes.
        for (const { partition, low } of await this.admin.fetchTopicOffsets(this.topic)) {
          if (BigInt(low) >= (unread.get(partition) ?? 0n)) unread.delete(partition);
        }
      }
      if (failure) throw failure.error;
    } finally {
      await consumer.disconnect();
      await this.admin.deleteGroups([groupId]).catch(() => undefined); // in time the broker does it
    }
  }

  private async append(letter: Letter, value: Buffer | null): Promise<void> {
    const { partition, key, time, headers } = letter;
    const message = { partition, key, value, headers, timestamp: String(time.getTime()) };
    const [written] = await this.producer.send({ topic: this.topic, acks: -1, messages: [message] });
    const box = this.partitions.get(partition);
    if (!box || written?.baseOffset !== String(box.end)) return; // something came in between, as in `resolve`
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
    // Else something came in between that we have not read, and must not delete.
    if (marker?.baseOffset === String(box.end)) box.end += 1n;
  }
}

/** Where the message stands of a letter that does not hold all of it; undefined when it holds all. */
export function elsewhere({ headers }: Letter): string | undefined {
  if (headers['dlq-omitted'] === undefined) return undefined;
  const [topic, partition, offset] = ['dlq-topic', 'dlq-partition', 'dlq-offset'].map((name) =>
    oneLine(headerText(headers, name) ?? '-'),
  );
  return `${topic}, partition ${partition}, offset ${offset}`;
}

/** What keeps a letter from being replayed; undefined when nothing does. */
export function replayObstacle(letter: Letter): string | undefined {
  if (letter.origin === undefined) return 'does not say where it came from (dlq-topic)';
  const place = elsewhere(letter);
  return place && `was too large to keep: its message is in ${place}`;
}

function toLetter(partition: number, message: KafkaMessage): Letter {
  const { offset, timestamp, key, value } = message;
  const headers = writableHeaders(message.headers ?? {});
  const origin = headerText(headers, 'dlq-topic');
  // Kafka takes times that no Date can be.
  const time = new Date(Math.max(-LATEST_MS, Math.min(LATEST_MS, Number(timestamp))));
  return { id: `${partition}:${offset}`, partition, time, key, value, headers, origin };
}

/** Of a letter by its id; of what is no id, a position where nothing stands. */
function positionOf(id: string): { readonly partition: number; readonly offset: bigint } {
  const [, partition = '-1', offset = '-1'] = /^(\d+):(\d+)$/.exec(id) ?? [];
  return { partition: Number(partition), offset: BigInt(offset) };
}
