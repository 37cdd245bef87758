import timers from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { Config } from '@platform/config';
import { HealthChecks } from '@platform/health';
import { Gauge } from 'prom-client';
import { type EventPublisher, EventRefused } from './event-publisher';
import { OutboxRelay } from './outbox-relay';
import { OutboxSession } from './outbox-session';
import { eventIdOf, type StoredEvent } from './stored-event';

const EVENT = { position: '1', id: 'e', aggregateid: 'ord_1', type: 'order.created' } as StoredEvent;
const METRIC = { set: () => undefined, inc: () => undefined, remove: () => undefined } as never;

const MEASURED = { backlog: 7, oldestAge: 8, parked: 9 };

const sessionThat = (measure: OutboxSession['measure']) =>
  ({ lanes: { balance: async () => undefined }, measure, close: async () => undefined }) as never;

describe('OutboxRelay', () => {
  beforeEach(() => {
    jest.spyOn(Math, 'random').mockReturnValue(0);
    jest.spyOn(Logger.prototype, 'warn').mockImplementation();
  });
  afterEach(() => jest.restoreAllMocks());

  /**
   * Relays one event again and again, from an outbox that can be read but not always marked, as on a full disk.
   * @param faults what keeps it from being marked, for each attempt; the relay is stopped when they are over
   * @returns of each pause how long it was, in ms, whether the relay then said that it works, and how often it had
   * published the event; how many events it marked at once in each attempt; and what it told of the backlog in the end
   */
  async function relayWith(faults: readonly (Error | undefined)[]) {
    const checks = new HealthChecks();
    const [pauses, works, publications, marked]: [number[], boolean[], number[], number[]] = [[], [], [], []];
    let published = 0;
    jest.spyOn(OutboxSession, 'open').mockResolvedValue({
      lanes: { balance: async () => undefined },
      hasMore: false,
      measure: async () => ({ backlog: 1, oldestAge: 1, parked: 0 }),
      read: async () => [{ ...EVENT }],
      markPublished: async (events: readonly StoredEvent[]) => {
        const fault = faults[marked.length];
        marked.push(events.length);
        if (fault) throw fault;
      },
      close: async () => undefined,
    } as never);
    const publisher = {
      connect: async () => undefined,
      publish: async () => void (published += 1),
    };
    const config = { outboxRelay: true, kafka: {} } as Config;
    const backlog = new Gauge({ name: 'backlog', help: 'backlog', registers: [] });
    const relay = new OutboxRelay(config, publisher, checks, backlog, METRIC, METRIC, METRIC);
    jest.spyOn(timers, 'setTimeout').mockImplementation(async (ms = 0) => {
      pauses.push(ms);
      const check = checks.reported.get('kafka')?.();
      works.push((await check?.then(() => true).catch(() => false)) ?? false);
      publications.push(published);
      if (marked.length === faults.length) relay.beforeApplicationShutdown();
    });
    relay.onApplicationBootstrap();
    await (relay as unknown as { running: Promise<void> }).running;
    return { pauses, works, publications, marked, backlog: (await backlog.get()).values };
  }
  const full = new Error('could not extend file');

  /** @param gauges of the backlog, the oldest age and the parked aggregates */
  async function relayUntilItPauses(
    publisher: EventPublisher,
    [backlog, oldestAge, parked]: [Gauge, Gauge, Gauge] = [METRIC, METRIC, METRIC],
  ): Promise<void> {
    const config = { outboxRelay: true, kafka: {} } as Config;
    const relay = new OutboxRelay(config, publisher, new HealthChecks(), backlog, oldestAge, parked, METRIC);
    jest.spyOn(timers, 'setTimeout').mockImplementation(async () => relay.beforeApplicationShutdown());
    relay.onApplicationBootstrap();
    await (relay as unknown as { running: Promise<void> }).running;
  }

  it('waits longer from time to time, up to 5 s, for what it cannot mark, and does not publish it again', async () => {
    const { pauses, works, publications, backlog } = await relayWith(Array.from({ length: 8 }, () => full));
    expect(pauses).toEqual([100, 200, 400, 800, 1_600, 2_500, 2_500, 2_500]);
    expect(works).not.toContain(true);
    expect(publications.at(-1)).toBe(1);
    expect(backlog).toMatchObject([{ value: 1 }]);
  });

  it('publishes again what others lock, and lets nothing wait for it', async () => {
    const locked = Object.assign(new Error('locked'), { code: '55P03' });
    const { publications, marked } = await relayWith([locked, locked, full, undefined, full]);
    expect(publications).toEqual([1, 2, 3, 4]);
    expect(marked).toEqual([1, 1, 1, 1, 1]);
  });

  it('remembers nothing that is marked', async () => {
    const { marked } = await relayWith([undefined, full, undefined, full]);
    expect(marked).toEqual([1, 1, 1, 1]);
  });

  it('works again once it could mark, and then begins with the shortest wait', async () => {
    jest.spyOn(performance, 'now').mockReturnValue(0); // upkeep is not due, however slow this is
    const { pauses, works } = await relayWith([full, full, undefined, undefined, full]);
    expect(works).toEqual([false, false, true, false]);
    expect(pauses.toSpliced(2, 1)).toEqual([100, 200, 100]);
    expect(pauses[2]).toBeLessThanOrEqual(20);
  });

  it('says which event was refused for good, of which order and request', async () => {
    const error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    const event = {
      ...EVENT,
      id: '0190f6a2-0000-7000-8000-000000000001',
      aggregateid: 'ord_01fwhe4ydgfk1shh6w1g60eecf',
      request_id: 'req_1',
    };
    const park = jest.fn();
    const session = sessionThat(async () => MEASURED);
    Object.assign(session, { read: async () => (park.mock.calls.length === 0 ? [event] : []), park });
    jest.spyOn(OutboxSession, 'open').mockResolvedValue(session);
    const refusal = new EventRefused('too large');
    const publisher = { connect: async () => undefined, publish: () => Promise.reject(refusal) } as never;
    await relayUntilItPauses(publisher);
    expect(park).toHaveBeenCalledWith(event, 'too large');
    const about = { eventId: eventIdOf(event), type: EVENT.type, orderId: event.aggregateid, requestId: 'req_1' };
    expect(error).toHaveBeenCalledWith(
      { err: refusal, ...about },
      'An event was refused for good; its aggregate is parked',
    );
  });

  it('does not publish what it read ahead of an aggregate that it has parked', async () => {
    jest.spyOn(Logger.prototype, 'error').mockImplementation();
    jest.spyOn(performance, 'now').mockReturnValue(0); // it reads ahead however slow this is
    const [refused, following] = [EVENT, { ...EVENT, position: '2' }];
    const park = jest.fn();
    const { promise: isReadAhead, resolve: readAhead } = Promise.withResolvers<void>();
    const session = {
      lanes: { balance: async () => undefined },
      get hasMore() {
        return park.mock.calls.length === 0;
      },
      read: async (underWay?: StoredEvent[]) => {
        if (park.mock.calls.length > 0) return [];
        if (!underWay) return [refused];
        readAhead();
        return [following];
      },
      measure: async () => MEASURED,
      park,
      close: async () => undefined,
    };
    jest.spyOn(OutboxSession, 'open').mockResolvedValue(session as never);
    const publish: jest.Mock = jest.fn(async () => {
      await isReadAhead;
      throw new EventRefused('too large');
    });
    const publisher = { connect: async () => undefined, publish };
    await relayUntilItPauses(publisher);
    expect(publish.mock.calls).toEqual([[[refused]]]);
  });

  it('marks a batch under way before the process ends', async () => {
    jest.spyOn(timers, 'setTimeout').mockReturnValue(new Promise(() => undefined)); // as long as it takes
    const [underWay, arrival] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const markPublished = jest.fn().mockResolvedValue(undefined);
    const session = Object.assign(
      sessionThat(async () => MEASURED),
      { read: async () => [EVENT], markPublished },
    );
    jest.spyOn(OutboxSession, 'open').mockResolvedValue(session);
    const publish = () => {
      underWay.resolve();
      return arrival.promise;
    };
    const publisher = { connect: async () => undefined, publish };
    const config = { outboxRelay: true, kafka: {} } as Config;
    const relay = new OutboxRelay(config, publisher, new HealthChecks(), METRIC, METRIC, METRIC, METRIC);
    relay.onApplicationBootstrap();
    await underWay.promise;
    relay.beforeApplicationShutdown();
    const markedAtTheEnd = relay.onApplicationShutdown().then(() => markPublished.mock.calls);
    await new Promise(setImmediate);
    arrival.resolve();
    expect(await markedAtTheEnd).toEqual([[[EVENT]]]);
  });

  it('relays a backlog that is too long to be counted', async () => {
    const gauges = [0, 1, 2].map(() => ({ set: jest.fn(), remove: jest.fn() }));
    const session = sessionThat(async () => ({ backlog: undefined, oldestAge: 8, parked: 9 }));
    const markPublished = jest.fn();
    Object.assign(session, { read: async () => (markPublished.mock.calls.length === 0 ? [EVENT] : []), markPublished });
    jest.spyOn(OutboxSession, 'open').mockResolvedValue(session);
    const publisher = { connect: async () => undefined, publish: async () => undefined } as never;
    await relayUntilItPauses(publisher, gauges as never);
    expect(markPublished).toHaveBeenCalledWith([EVENT]);
    expect(gauges.map(({ set }) => set.mock.lastCall as unknown)).toEqual([undefined, [8], [9]]);
    expect(gauges[0]?.remove).toHaveBeenCalled();
  });

  it('takes no lanes from others while it cannot publish', async () => {
    const session = sessionThat(async () => MEASURED);
    const balance = jest.fn();
    Object.assign(session, { lanes: { balance } });
    jest.spyOn(OutboxSession, 'open').mockResolvedValue(session);
    const publisher = { connect: () => Promise.reject(new Error('no broker')) } as never;
    await relayUntilItPauses(publisher);
    expect(balance).not.toHaveBeenCalled();
  });

  it('says that it works when there is nothing to relay', async () => {
    const session = sessionThat(async () => MEASURED);
    jest.spyOn(OutboxSession, 'open').mockResolvedValue(Object.assign(session, { read: async () => [] }));
    const checks = new HealthChecks();
    const publisher = { connect: async () => undefined } as never;
    const config = { outboxRelay: true, kafka: {} } as Config;
    const relay = new OutboxRelay(config, publisher, checks, METRIC, METRIC, METRIC, METRIC);
    let works: Promise<void> | undefined;
    jest.spyOn(timers, 'setTimeout').mockImplementation(async () => {
      works = checks.reported.get('kafka')?.();
      relay.beforeApplicationShutdown();
    });
    relay.onApplicationBootstrap();
    await (relay as unknown as { running: Promise<void> }).running;
    await expect(works).resolves.toBeUndefined();
  });

  it.each([
    ['cannot open', jest.fn().mockRejectedValue(new Error('refused')), []],
    ['cannot measure', jest.fn().mockResolvedValue(sessionThat(() => Promise.reject(new Error('denied')))), []],
    ['measures, and cannot publish', jest.fn().mockResolvedValue(sessionThat(async () => MEASURED)), [7, 8, 9]],
  ])('tells of the backlog what it knows when its session %s', async (_, open, told) => {
    jest.spyOn(OutboxSession, 'open').mockImplementation(open);
    const gauges = ['backlog', 'age', 'parked'].map((name) => new Gauge({ name, help: name, registers: [] }));
    for (const gauge of gauges) gauge.set(1);
    const publisher = { connect: () => Promise.reject(new Error('no broker')) } as never;
    await relayUntilItPauses(publisher, gauges as [Gauge, Gauge, Gauge]);
    const values = await Promise.all(gauges.map(async (gauge) => (await gauge.get()).values));
    expect(values.flat().map(({ value }) => value)).toEqual(told);
  });

  it.each([
    [undefined, 1],
    [{}, 0],
  ])('that is off says that nothing is handled, unless there is Kafka: %j', (kafka, warnings) => {
    const config = { outboxRelay: false, kafka } as Config;
    const warn = jest.spyOn(Logger.prototype, 'warn');
    const publisher = { connect: jest.fn(), publish: jest.fn() };
    new OutboxRelay(config, publisher, new HealthChecks(), METRIC, METRIC, METRIC, METRIC).onApplicationBootstrap();
    expect(warn).toHaveBeenCalledTimes(warnings);
    expect(publisher.connect).not.toHaveBeenCalled();
  });
});
