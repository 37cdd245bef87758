import timers from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { type KafkaContext, ServerKafka } from '@nestjs/microservices';
import type { Config } from '@platform/config';
import { HealthChecks } from '@platform/health';
import { ServiceError } from '@platform/errors';
import { Spans } from '@platform/tracing';
import type { Consumer, ConsumerRunConfig, EachBatchPayload, KafkaMessage } from 'kafkajs';
import { Gauge } from 'prom-client';
import type { DeadLetter } from '@platform/kafka';
import type { ConsumedEvent } from './consumed-event';
import { EventConsumer } from './event-consumer';
import { KafkaEventServer } from './kafka-event-server';

const TOPIC = 'orders.events';

/** A partition as kafkajs hands it out: from the first message that was not resolved, and again after a failure. */
class Partition {
  resolved = -1;
  heartbeats = 0;
  /** Of messages behind this batch. */
  lag = '0';
  private readonly messages: KafkaMessage[];

  constructor(ids: readonly string[]) {
    this.messages = ids.map((id, offset) => ({
      key: Buffer.from(id),
      value: Buffer.from('{}'),
      headers: { ce_id: id, ce_subject: id, ...(id !== 'malformed' && { ce_type: 'test.told' }) },
      offset: String(offset),
      timestamp: '1764000000000',
      attributes: 0,
    }));
  }

  get batch(): EachBatchPayload {
    const messages = this.messages.slice(this.resolved + 1);
    return {
      batch: { topic: TOPIC, partition: 0, messages, offsetLag: () => this.lag },
      resolveOffset: (offset: string) => (this.resolved = Number(offset)),
      heartbeat: async () => void (this.heartbeats += 1),
      isRunning: () => true,
      isStale: () => false,
    } as unknown as EachBatchPayload;
  }
}

describe('KafkaEventServer', () => {
  let handle: (id: string) => Promise<void>;
  let letters: string[];
  let handled: string[];
  let eachBatch: NonNullable<ConsumerRunConfig['eachBatch']>;
  let isInGroup: () => Promise<void>;
  let check: () => Promise<void>;
  let server: KafkaEventServer;
  let oldestAge: Gauge<'topic' | 'partition'>;
  let join: (own: Record<string, number[]>) => void;
  let hear: (event: 'fetch' | 'heartbeat') => void;
  let crash: (payload: { error: Error; restart: boolean }) => void;
  let subscribe: jest.Mock;

  beforeEach(async () => {
    jest.useFakeTimers();
    jest.spyOn(Logger.prototype, 'error').mockImplementation();
    [letters, handled] = [[], []];
    const inbox = {
      once: async (_consumer: string, { id }: ConsumedEvent) => {
        await handle(id);
        handled.push(id);
        return true;
      },
    };
    const deadLetters = { send: async ({ message }: DeadLetter) => void letters.push(String(message.key)) };
    const events = new EventConsumer({} as Config, inbox as never, deadLetters, new Spans({ spans: undefined }), {
      inc: () => undefined,
    } as never);
    const checks = new HealthChecks();
    const kafka = { brokers: [], ssl: false, sasl: undefined, clientId: 'things', consumerGroup: 'g' };
    oldestAge = new Gauge({ name: 'age', help: '-', labelNames: ['topic', 'partition'], registers: [] });
    server = new KafkaEventServer(kafka, checks, oldestAge);
    isInGroup = checks.reported.get('kafka-consumer')!;
    check = checks.reported.get('kafka-partitions')!;
    server.addHandler(
      TOPIC,
      (_: unknown, context: unknown) =>
        events.consume('c', context as KafkaContext, { 'test.told': async () => undefined }) as never,
      true,
    );
    const on = jest.fn();
    subscribe = jest.fn().mockResolvedValue(undefined);
    const consumer = {
      events: { CRASH: 'crash', GROUP_JOIN: 'join', FETCH: 'fetch', HEARTBEAT: 'heartbeat' },
      on,
      subscribe,
      run: async (config: ConsumerRunConfig) => void (eachBatch = config.eachBatch!),
    } as unknown as Consumer;
    Object.assign(server, { consumer });
    server['registerConsumerEventListeners']();
    const [, joined] = on.mock.calls.find(([event]) => event === 'join');
    join = (memberAssignment) => joined({ payload: { memberAssignment } });
    hear = (event) => on.mock.calls.find(([name]) => name === event)[1]();
    // Nest listens for it too, to log it.
    crash = (payload) =>
      on.mock.calls.filter(([name]) => name === 'crash').forEach(([, crashed]) => crashed({ payload }));
    await server.bindEvents(consumer);
  });
  afterEach(() => {
    jest.useRealTimers();
    jest.restoreAllMocks();
  });

  it('begins with what was published before its group was there', () => {
    expect(subscribe.mock.calls).toEqual([[{ topics: [TOPIC], fromBeginning: true }]]);
  });

  it.each([
    ['before', ['malformed', 'a', 'b']],
    ['after', ['a', 'b', 'malformed']],
  ])('writes a dead letter once, however often an event %s it has to be delivered', async (_, ids) => {
    const partition = new Partition(ids);
    handle = () => Promise.reject(ServiceError.unavailable(undefined));
    for (let round = 0; round < 3; round += 1) await expect(eachBatch(partition.batch)).rejects.toThrow();
    handle = async () => undefined;
    await eachBatch(partition.batch);
    expect(letters).toEqual(['malformed']);
    expect(handled).toEqual(['a', 'b']);
    expect(partition.resolved).toBe(2);
  });

  it('counts nothing as consumed behind an event that has to be delivered again', async () => {
    const partition = new Partition(['a', 'b', 'c']);
    handle = async (id) => {
      if (id === 'b') throw ServiceError.unavailable(undefined);
    };
    await expect(eachBatch(partition.batch)).rejects.toThrow();
    expect(partition.resolved).toBe(0);
  });

  it('tells of a partition of which it can handle nothing, however often it joins, until it can or another has it', async () => {
    const partition = new Partition(['a']);
    await expect(isInGroup()).rejects.toThrow('not started');
    join({ [TOPIC]: [0, 1] });
    await expect(isInGroup()).resolves.toBeUndefined();
    await expect(check()).resolves.toBeUndefined();
    handle = () => Promise.reject(ServiceError.unavailable(undefined));
    for (let round = 0; round < 2; round += 1) {
      await expect(eachBatch(partition.batch)).rejects.toThrow();
      join({ [TOPIC]: [0, 1] });
      await expect(check()).rejects.toThrow('cannot be consumed');
    }
    join({ [TOPIC]: [1] });
    await expect(check()).resolves.toBeUndefined();
    join({ [TOPIC]: [0, 1] });
    await expect(eachBatch(partition.batch)).rejects.toThrow();
    await expect(check()).rejects.toThrow('cannot be consumed');
    handle = async () => undefined;
    await eachBatch(partition.batch);
    await expect(check()).resolves.toBeUndefined();
  });

  it('does not take silence for being in the group, and hears that brokers are there again', async () => {
    join({ [TOPIC]: [0] });
    for (const event of ['fetch', 'heartbeat'] as const) {
      jest.advanceTimersByTime(30_000);
      await expect(isInGroup()).resolves.toBeUndefined();
      jest.advanceTimersByTime(1);
      await expect(isInGroup()).rejects.toThrow('events cannot be consumed');
      hear(event);
      await expect(isInGroup()).resolves.toBeUndefined();
    }
  });

  it('beats its heart while events take long, so that the group does not give their partition to another', async () => {
    const partition = new Partition(['a']);
    handle = () => new Promise((resolve) => setTimeout(resolve, 60_000));
    const handling = eachBatch(partition.batch);
    // The broker takes a member for dead when it has heard nothing for 10 s.
    for (let seconds = 10; seconds <= 50; seconds += 10) {
      const before = partition.heartbeats;
      await jest.advanceTimersByTimeAsync(10_000);
      expect(partition.heartbeats - before).toBeGreaterThan(2);
    }
    await jest.advanceTimersByTimeAsync(10_000);
    await handling;
    const after = partition.heartbeats;
    await jest.advanceTimersByTimeAsync(10_000);
    expect(partition.heartbeats).toBe(after);
  });

  it('tells how old the oldest event is that waits, until none does or another has the partition', async () => {
    const ages = async () => (await oldestAge.get()).values.map(({ labels, value }) => [labels.partition, value]);
    jest.setSystemTime(1_764_000_000_000 + 90_000);
    const partition = new Partition(['a']);
    partition.lag = '5';
    handle = () => Promise.reject(ServiceError.unavailable(undefined));
    await expect(eachBatch(partition.batch)).rejects.toThrow();
    expect(await ages()).toEqual([[0, 90]]);
    jest.setSystemTime(1_764_000_000_000 + 100_000);
    handle = async () => undefined;
    await eachBatch(partition.batch);
    expect(await ages()).toEqual([[0, 100]]);
    const last = new Partition(['b']);
    await eachBatch(last.batch);
    expect(await ages()).toEqual([[0, 0]]);
    join({ [TOPIC]: [1] });
    expect(await ages()).toEqual([]);
  });

  it.each([
    ['is stale', { isStale: () => true }],
    ['is not to go on', { isRunning: () => false }],
  ])('leaves alone what is left of a batch that %s', async (_, change) => {
    const { batch } = new Partition(Array.from({ length: 60 }, (_, n) => `id-${n}`));
    handle = async () => void Object.assign(batch, change);
    await eachBatch(batch);
    expect(handled).toHaveLength(50);
  });

  it('leaves it to kafkajs to restart a consumer that crashed, and starts anew where kafkajs does not', async () => {
    join({ [TOPIC]: [0] });
    crash({ error: new Error('away'), restart: true });
    await expect(Promise.race([server['crashed'], Promise.resolve('not yet')])).resolves.toBe('not yet');
    await expect(isInGroup()).rejects.toThrow('events cannot be consumed');
    crash({ error: new Error('not authorised'), restart: false });
    await expect(server['crashed']).rejects.toThrow('not authorised');
  });

  it('is closed only when what it handles is handled', async () => {
    jest.spyOn(ServerKafka.prototype, 'listen').mockImplementation(async (callback) => callback());
    const ended: string[] = [];
    jest.spyOn(ServerKafka.prototype, 'close').mockImplementation(async () => {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      ended.push('the batch under way');
    });
    await server.listen(() => undefined);
    const closed = server.close().then(() => ended.push('the server'));
    await jest.advanceTimersByTimeAsync(1_000);
    await closed;
    expect(ended).toEqual(['the batch under way', 'the server']);
  });

  it('waits longer each time that it is not let into the group, and not after it was', async () => {
    jest.spyOn(Math, 'random').mockReturnValue(0.5);
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    jest.spyOn(ServerKafka.prototype, 'close').mockResolvedValue(undefined);
    jest.spyOn(ServerKafka.prototype, 'listen').mockImplementation(async (callback) => {
      const crashed = Promise.reject<void>(new Error('not authorised'));
      crashed.catch(() => undefined);
      Object.assign(server, { crashed });
      callback();
    });
    const pauses: unknown[] = [];
    jest.spyOn(timers, 'setTimeout').mockImplementation(async (ms) => {
      pauses.push(ms);
      if (pauses.length === 7) join({ [TOPIC]: [0] });
      if (pauses.length === 9) server['stop'].abort();
    });
    await server.listen(() => undefined);
    await server['running'];
    expect(pauses).toEqual([150, 300, 600, 1_200, 2_400, 3_750, 3_750, 150, 300]);
    const failures = warn.mock.calls.map(([line]) => (line as { failures: number }).failures);
    expect(failures).toEqual([1, 2, 3, 4, 5, 6, 7, 1, 2]);
  });
});
