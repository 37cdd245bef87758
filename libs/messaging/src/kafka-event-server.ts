import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { type MessageHandler, ServerKafka } from '@nestjs/microservices';
import type { Config } from '@platform/config';
import type { HealthChecks } from '@platform/health';
import { kafkaOptions, PRODUCER_OPTIONS } from '@platform/kafka';
import type { Consumer, EachBatchPayload, KafkaMessage } from 'kafkajs';
import type { Gauge } from 'prom-client';

/** For this long the partitions of a worker that died are not consumed. Brokers allow no less than 6 s by default. */
const SESSION_TIMEOUT_MS = 10_000;
const HEARTBEAT_MS = SESSION_TIMEOUT_MS / 4;
/**
 * How long a broker holds a fetch while there is nothing to read. Meanwhile kafkajs can neither stop nor notice that
 * the group rebalances. With its default of 5 s a worker could not leave the group in time when it stops.
 */
const MAX_WAIT_MS = 500;
const CONCURRENT_PARTITIONS = 4;
/** Messages of a partition with different keys that are handled concurrently, and so can share a transaction. */
const CONCURRENT_MESSAGES = 50;
const MAX_BACKOFF_MS = 5_000;
/** Frozen brokers do not refuse connections: kafkajs takes two minutes to report a failure. */
const MAX_SILENCE_MS = 3 * SESSION_TIMEOUT_MS;
/** How long a stop waits for messages in progress; unfinished ones are delivered to the partition's next owner. */
const LAST_MESSAGES_MS = 5_000;
const FAILURE = 'events cannot be consumed at the moment; they wait in Kafka';

/**
 * Nest's Kafka transport, except that it starts without Kafka and restarts whenever its consumer ends: after some
 * errors kafkajs gives up for good, and a worker that runs but consumes nothing would go unnoticed.
 */
export class KafkaEventServer extends ServerKafka {
  private readonly log = new Logger(KafkaEventServer.name);
  private readonly stop = new AbortController();
  /** By partition: which messages of the latest part of a batch were handled, for a retry after one that was not. */
  private readonly handledInLastPart = new Map<string, ReadonlySet<string>>();
  /** Partitions whose next message could not be handled: for these, being in the group is not enough to be healthy. */
  private readonly stuck = new Set<string>();
  private crashed: Promise<void> = Promise.resolve();
  private running: Promise<void> | undefined;
  private failure: string | undefined = 'not started';
  /** When a broker last answered, by `performance.now()`. */
  private heardAt = -Infinity;
  /** Failures since it last joined the group: a consumer that connects may still not be admitted. */
  private failures = 0;

  /** @param oldestAge age of the oldest waiting event of each partition, in seconds */
  constructor(
    kafka: NonNullable<Config['kafka']>,
    checks: HealthChecks,
    private readonly oldestAge: Gauge<'topic' | 'partition'>,
  ) {
    super({
      client: kafkaOptions(kafka),
      postfixId: '',
      consumer: {
        groupId: kafka.consumerGroup,
        sessionTimeout: SESSION_TIMEOUT_MS,
        heartbeatInterval: HEARTBEAT_MS,
        maxWaitTimeInMs: MAX_WAIT_MS,
        allowAutoTopicCreation: false,
        retry: { initialRetryTime: 300, maxRetryTime: 3_000, retries: 8 },
      },
      producer: PRODUCER_OPTIONS, // Nest makes one for replies, which there are none of; without options kafkajs warns
    });
    // Passes messages to handlers unparsed. Nest's parser guesses at JSON, in headers too, and dead letters have to be
    // what was sent.
    this.parser = { parse: (message: object) => ({ headers: {}, ...message }) } as never;
    checks.reported.set('kafka-consumer', async () => {
      if (this.failure !== undefined) throw new Error(this.failure);
      if (performance.now() - this.heardAt > MAX_SILENCE_MS) throw new Error(FAILURE);
    });
    checks.reported.set('kafka-partitions', async () => {
      if (this.stuck.size > 0) throw new Error(`${[...this.stuck].join(', ')} cannot be consumed at the moment`);
    });
  }

  override async listen(callback: (error?: unknown) => void): Promise<void> {
    this.running = this.run();
    callback();
  }

  override async close(): Promise<void> {
    this.stop.abort();
    await Promise.race([this.running, delay(LAST_MESSAGES_MS, undefined, { ref: false })]);
  }

  /** Looks up the plain topic name. Nest first parses it as JSON, which costs an exception for every message. */
  override getHandlerByPattern(pattern: string): MessageHandler | null {
    return this.messageHandlers.get(pattern) ?? null;
  }

  override async bindEvents(consumer: Consumer): Promise<void> {
    // Events published before the group existed are to be processed too.
    await consumer.subscribe({ topics: [...this.messageHandlers.keys()], fromBeginning: true });
    await consumer.run({
      partitionsConsumedConcurrently: CONCURRENT_PARTITIONS,
      eachBatchAutoResolve: false,
      eachBatch: (payload) => this.handleBatch(payload),
    });
  }

  /** Handles messages with the same key in order. Offsets are committed up to the first message that failed. */
  private async handleBatch(payload: EachBatchPayload): Promise<void> {
    const { topic, partition, messages } = payload.batch;
    const place = placeOf(topic, partition);
    for (let start = 0; start < messages.length; start += CONCURRENT_MESSAGES) {
      if (!payload.isRunning() || payload.isStale()) return;
      const part = messages.slice(start, start + CONCURRENT_MESSAGES);
      this.oldestAge.set({ topic, partition }, (Date.now() - Number(part[0]?.timestamp)) / 1_000);
      const ofEachKey = Map.groupBy(part, ({ key }) => key?.toString('latin1')).values();
      // The part may be a retry. The inbox would recognise its events, but its dead letters would be written again.
      const handledBefore = this.handledInLastPart.get(place);
      const handled = new Set<string>();
      const handling = Array.from(ofEachKey, async (ofOne) => {
        for (const message of ofOne) {
          if (!handledBefore?.has(identity(message))) {
            await this.handleMessage({ ...payload, topic, partition, message });
          }
          handled.add(identity(message));
        }
      });
      const heartbeats = setInterval(() => void payload.heartbeat().catch(() => undefined), HEARTBEAT_MS);
      // When the batch is delivered again, nothing of it may still be in progress.
      await Promise.allSettled(handling).finally(() => clearInterval(heartbeats));
      this.handledInLastPart.set(place, handled);
      const firstLeft = part.findIndex((message) => !handled.has(identity(message)));
      const last = firstLeft === -1 ? part.at(-1) : part[firstLeft - 1];
      if (last) payload.resolveOffset(last.offset);
      if (firstLeft === -1) this.stuck.delete(place);
      else this.stuck.add(place);
      await Promise.all(handling);
      await payload.heartbeat();
    }
    if (payload.batch.offsetLag() === '0') this.oldestAge.set({ topic, partition }, 0);
  }

  protected override registerConsumerEventListeners(): void {
    super.registerConsumerEventListeners();
    const consumer = this.consumer as unknown as Consumer;
    this.crashed = new Promise((_, reject) => {
      consumer.on(consumer.events.CRASH, ({ payload: { error, restart } }) => {
        this.failure = FAILURE;
        if (!restart) reject(error);
      });
      consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberAssignment } }) => {
        this.failure = undefined;
        this.failures = 0;
        this.heardAt = performance.now();
        this.oldestAge.reset(); // other members report their partitions
        const places = Object.entries(memberAssignment).flatMap(([topic, own]) => own.map((n) => placeOf(topic, n)));
        for (const place of this.stuck) if (!places.includes(place)) this.stuck.delete(place);
      });
    });
    for (const event of [consumer.events.FETCH, consumer.events.HEARTBEAT]) {
      consumer.on(event, () => void (this.heardAt = performance.now()));
    }
    this.crashed.catch(() => undefined);
  }

  private async run(): Promise<void> {
    const stopped = new Promise<void>((resolve) => this.stop.signal.addEventListener('abort', () => resolve()));
    while (!this.stop.signal.aborted) {
      try {
        await this.connect();
        await Promise.race([this.crashed, stopped]);
        await super.close();
      } catch (error) {
        this.failure = FAILURE;
        this.failures += 1;
        this.log.warn({ err: error, failures: this.failures }, 'The Kafka consumer failed; it starts anew');
        await super.close().catch(() => undefined);
        const pause = Math.min(MAX_BACKOFF_MS, 100 * 2 ** this.failures) * (0.5 + Math.random() / 2);
        await delay(pause, undefined, { signal: this.stop.signal }).catch(() => undefined);
      }
    }
  }

  private async connect(): Promise<void> {
    let failure: unknown;
    await super.listen((error?: unknown) => {
      failure = error;
    });
    if (failure !== undefined) throw failure as Error;
  }
}

const placeOf = (topic: string, partition: number) => `${topic}/${partition}`;

/** Includes the timestamp, because the offsets of a recreated topic begin at 0 again. */
const identity = ({ offset, timestamp }: KafkaMessage) => `${offset} ${timestamp}`;
