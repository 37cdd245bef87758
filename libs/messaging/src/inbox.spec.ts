import { setImmediate } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { KafkaContext } from '@nestjs/microservices';
import type { Config } from '@platform/config';
import { currentContext, newContext } from '@platform/request-context';
import { Spans } from '@platform/tracing';
import { EventConsumer, oneByOne } from './event-consumer';
import { Inbox } from './inbox';

const context = newContext();

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await setImmediate();
}

/** A database that knows transactions, and of the table `inbox` which events it holds. */
class Notes {
  /** Each transaction, by the events that it was to note. */
  readonly transactions: string[][] = [];
  private committed = new Set<string>();

  async inTransaction<T>(work: (tx: object) => Promise<T>): Promise<T> {
    const noted = new Set(this.committed);
    const query = async (_: string, [consumer, ids]: [string, string[]]) => {
      this.transactions.push(ids);
      return ids
        .map((event_id) => ({ event_id, key: `${consumer} ${event_id}` }))
        .filter(({ key }) => !noted.has(key) && noted.add(key));
    };
    const result = await work({ query });
    await turns(3); // so long that others come meanwhile
    this.committed = noted;
    return result;
  }
}

describe('Inbox', () => {
  let notes: Notes;
  let letters: string[];
  let effects: string[];
  let consume: (id: string) => Promise<void>;

  beforeEach(() => {
    jest.spyOn(Math, 'random').mockReturnValue(0);
    jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    jest.spyOn(Logger.prototype, 'error').mockImplementation();
    notes = new Notes();
    [letters, effects] = [[], []];
    const deadLetters = { send: async () => void letters.push('a letter') };
    const events = new EventConsumer(
      {} as Config,
      new Inbox(notes as never),
      deadLetters,
      new Spans({ spans: undefined }),
      { inc: () => undefined } as never,
    );
    consume = (id) => {
      const headers = { ce_id: id, ce_type: 'test.told', ce_subject: id };
      const context = {
        getMessage: () => ({ headers, value: Buffer.from('{}'), offset: '0' }),
        getTopic: () => 'orders.events',
        getPartition: () => 0,
        getHeartbeat: () => async () => undefined,
      };
      return events.consume('c', context as unknown as KafkaContext, {
        'test.told': async (_tx, events) => {
          for (const { id } of events) {
            if (id === 'bad') throw new Error('bad');
            effects.push(id);
          }
        },
      });
    };
  });
  afterEach(() => jest.restoreAllMocks());

  it('notes events that come together in one transaction, and each once', async () => {
    await Promise.all(['a', 'b', 'a'].map(consume));
    await consume('b');
    expect(notes.transactions).toEqual([['a', 'b', 'a'], ['b']]);
    expect(effects).toEqual(['a', 'b']);
  });

  it('hands events of one type that come together to their handler at once, and each once', async () => {
    const calls: string[][] = [];
    const inbox = new Inbox(notes as never);
    const handlers = {
      told: async (_tx: unknown, events: readonly { id: string }[]) => void calls.push(events.map(({ id }) => id)),
      sung: async (_tx: unknown, events: readonly { id: string }[]) => void calls.push(events.map(({ id }) => id)),
    };
    const once = (consumer: string, id: string, type: string) =>
      inbox.once(consumer, { id, type, subject: 's', data: {}, context }, handlers, { alone: false });
    const areNew = await Promise.all([
      once('c', 'a', 'told'),
      once('c', 'b', 'sung'),
      once('d', 'c', 'told'),
      once('c', 'd', 'told'),
      once('c', 'a', 'told'),
    ]);
    expect(areNew).toEqual([true, true, true, true, false]);
    expect(calls).toHaveLength(3);
    expect(calls).toEqual(expect.arrayContaining([['a', 'd'], ['b'], ['c']]));
  });

  it('has no transaction of one consumer fail for another', async () => {
    const inbox = new Inbox(notes as never);
    const failing = { told: () => Promise.reject(new Error('bad')) };
    const fine = { told: () => Promise.resolve() };
    const once = (consumer: string, id: string) =>
      inbox.once(consumer, { id, type: 'told', subject: 's', data: {}, context }, consumer === 'c' ? failing : fine, {
        alone: false,
      });
    const ids = ['a', 'b', 'e'];
    const results = await Promise.allSettled([...ids.map((id) => once('c', id)), ...ids.map((id) => once('d', id))]);
    expect(results.map(({ status }) => status)).toEqual([...ids.map(() => 'rejected'), ...ids.map(() => 'fulfilled')]);
    expect(notes.transactions.filter((events) => events.length === 3)).toHaveLength(2);
    expect(notes.transactions).toHaveLength(1 + 3 + 1);
  });

  it('continues the trace of each event where they are taken one by one', async () => {
    const seen: unknown[] = [];
    const handler = oneByOne(async (_tx, { id }) => void seen.push([id, currentContext()?.requestId]));
    const event = (id: string) => ({
      id,
      type: 'told',
      subject: 's',
      data: {},
      context: newContext({ requestId: `req-${id}` }),
    });
    await handler({} as never, [event('a'), event('b')]);
    expect(seen).toEqual([
      ['a', 'req-a'],
      ['b', 'req-b'],
    ]);
  });

  it('has a span that says when an event went to the dead letters', async () => {
    const add = jest.spyOn(Spans.prototype, 'add').mockImplementation();
    jest.spyOn(Spans.prototype, 'has').mockReturnValue(true);
    await Promise.all(['good', 'bad'].map(consume));
    expect(add.mock.calls.map(([, { attributes, error }]) => [attributes['messaging.message.id'], error])).toEqual(
      expect.arrayContaining([
        ['good', undefined],
        ['bad', 'dead_lettered'],
      ]),
    );
  });

  it('lets an event that fails again and again cost those that came with it one transaction each', async () => {
    const all = ['a', 'bad', 'b'].map(consume);
    for (let n = 0; n < 100; n += 1) {
      await turns(1);
      all.push(consume(`later${n}`));
    }
    await Promise.all(all);
    const withBad = notes.transactions.filter((ids) => ids.includes('bad'));
    expect(withBad).toEqual([['a', 'bad', 'b'], ['bad'], ['bad'], ['bad'], ['bad'], ['bad']]);
    expect(letters).toEqual(['a letter']);
    expect(new Set(effects)).toEqual(new Set(['a', 'b', ...Array.from({ length: 100 }, (_, n) => `later${n}`)]));
  });
});
