import { setTimeout as delay } from 'node:timers/promises';
import { ServiceError } from '@platform/errors';
import { currentContext, newContext, runInContext } from '@platform/request-context';
import { Batcher } from './batcher';

/** A database of which a test says when each batch is written, and how. */
class Writes {
  readonly batches: (readonly number[])[] = [];
  private readonly open: (() => void)[] = [];
  fault: (items: readonly number[]) => Error | undefined = () => undefined;

  readonly write = async (items: readonly number[]): Promise<string[]> => {
    this.batches.push(items);
    await new Promise<void>((resolve) => this.open.push(resolve));
    const fault = this.fault(items);
    if (fault) throw fault;
    return items.map((item) => `wrote ${item}`);
  };

  async finish(): Promise<void> {
    this.open.shift()?.();
    await delay(0);
  }

  async finishAll(): Promise<void> {
    while (this.open.length > 0) await this.finish();
  }
}

const range = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index);

describe('Batcher', () => {
  let writes: Writes;
  let commits: Batcher<number, string>;

  beforeEach(() => {
    writes = new Writes();
    commits = new Batcher(writes.write, (item) => (item >= 10_000 ? 400 : 1));
  });

  const turn = () => Promise.resolve();

  /** @returns the results, or the codes of the errors, of 0, 1 and those given */
  async function addWhileTwoAreOnTheirWay(items: readonly number[]): Promise<Promise<string>[]> {
    const results: Promise<string>[] = [];
    for (const item of [0, 1, ...items]) {
      results.push(commits.add(item).catch((error: ServiceError) => error.code));
      if (item < 2) await turn();
    }
    return results;
  }

  const locked = ServiceError.unavailable(Object.assign(new Error('locked'), { code: '55P03' }));

  async function addTen(): Promise<string[]> {
    const results = range(0, 10).map((item) => commits.add(item).catch((error: ServiceError) => error.code));
    await turn();
    await writes.finishAll();
    return Promise.all(results);
  }

  it('sends a lone item at once', async () => {
    const result = commits.add(1);
    await turn();
    expect(writes.batches).toEqual([[1]]);
    await writes.finish();
    await expect(result).resolves.toBe('wrote 1');
  });

  it('sends those together that are added together', async () => {
    const results = range(0, 10).map((item) => commits.add(item));
    await turn();
    expect(writes.batches).toEqual([range(0, 10)]);
    await writes.finishAll();
    await expect(Promise.all(results)).resolves.toEqual(range(0, 10).map((item) => `wrote ${item}`));
  });

  it('sends sixteen as two batches when none is on its way, and as one behind another', async () => {
    const results = range(0, 16).map((item) => commits.add(item));
    await turn();
    expect(writes.batches).toEqual([range(0, 8), range(8, 8)]);
    await writes.finish();
    results.push(...range(16, 20).map((item) => commits.add(item)));
    await turn();
    expect(writes.batches[2]).toEqual(range(16, 20));
    await writes.finishAll();
    await expect(Promise.all(results)).resolves.toEqual(range(0, 36).map((item) => `wrote ${item}`));
  });

  it('sends what came while two batches were on their way, in its order', async () => {
    const results = await addWhileTwoAreOnTheirWay(range(2, 63));
    await turn();
    expect(writes.batches).toEqual([[0], [1]]);
    await writes.finish();
    expect(writes.batches[2]).toEqual(range(2, 63));
    await writes.finishAll();
    await expect(Promise.all(results)).resolves.toEqual(range(0, 65).map((item) => `wrote ${item}`));
    expect(writes.batches).toHaveLength(3);
  });

  it('sends a third and a fourth batch beside two others when many wait, 128 at a time, and no fifth', async () => {
    const results = await addWhileTwoAreOnTheirWay(range(2, 330));
    await turn();
    expect(writes.batches).toEqual([[0], [1], range(2, 128), range(130, 128)]);
    await writes.finish();
    expect(writes.batches.slice(4)).toEqual([range(258, 74)]);
    results.push(...range(332, 63).map((item) => commits.add(item)));
    await writes.finish();
    await writes.finish();
    expect(writes.batches).toHaveLength(5);
    await writes.finish();
    expect(writes.batches.slice(5)).toEqual([range(332, 63)]);
    await writes.finishAll();
    await expect(Promise.all(results)).resolves.toEqual(range(0, 395).map((item) => `wrote ${item}`));
    expect(writes.batches).toHaveLength(6);
  });

  it('gives a fault to the one that it is about, and writes its neighbours', async () => {
    writes.fault = (items) => (items.includes(5) ? new Error('5 is bad') : undefined);
    const results = range(0, 10).map((item) => commits.add(item).catch((error: Error) => error.message));
    await turn();
    await writes.finishAll();
    const expected = range(0, 10).map((item) => (item === 5 ? '5 is bad' : `wrote ${item}`));
    await expect(Promise.all(results)).resolves.toEqual(expected);
  });

  it('gives an error in the place of a result to the one that it is about, and tries nobody again', async () => {
    const away = ServiceError.unavailable(new Error('5 is locked'));
    const batches: (readonly number[])[] = [];
    const own = new Batcher<number, number>(async (items) => {
      batches.push(items);
      return items.map((item) => (item === 5 ? away : item));
    });
    const results = await Promise.allSettled(range(0, 10).map((item) => own.add(item)));
    expect(results.map((result) => (result.status === 'fulfilled' ? result.value : result.reason))).toEqual(
      range(0, 10).map((item) => (item === 5 ? away : item)),
    );
    expect(batches).toEqual([range(0, 10)]);
  });

  it('tells all that wait when the database is away, and tries none of them', async () => {
    writes.fault = () => ServiceError.unavailable(new Error('away'));
    const results = await addWhileTwoAreOnTheirWay(range(2, 60));
    await writes.finishAll();
    await expect(Promise.all(results)).resolves.toEqual(range(0, 62).map(() => 'SERVICE_UNAVAILABLE'));
    expect(writes.batches).toEqual([[0], [1]]);
  });

  it('asks once for a batch with which the database goes away', async () => {
    writes.fault = () => ServiceError.unavailable(new Error('away'));
    const results = range(0, 10).map((item) => commits.add(item).catch((error: ServiceError) => error.code));
    await turn();
    await writes.finishAll();
    await expect(Promise.all(results)).resolves.toEqual(range(0, 10).map(() => 'SERVICE_UNAVAILABLE'));
    expect(writes.batches).toEqual([range(0, 10)]);
  });

  it('lets nobody who waits pay for a fault of one that is on its way', async () => {
    writes.fault = (items) => (items.includes(0) ? new Error('0 is bad') : undefined);
    const results = await addWhileTwoAreOnTheirWay(range(2, 3));
    await writes.finishAll();
    await expect(Promise.all(results)).resolves.toEqual([undefined, ...range(1, 4).map((item) => `wrote ${item}`)]);
  });

  it('stops to try one by one when the database goes away meanwhile', async () => {
    writes.fault = (items) => (items.length > 1 ? new Error('one is bad') : undefined);
    const results = await addWhileTwoAreOnTheirWay(range(2, 8));
    await writes.finish();
    await writes.finish();
    await writes.finish();
    writes.fault = () => ServiceError.unavailable(new Error('away'));
    await writes.finishAll();
    await expect(Promise.all(results)).resolves.toEqual([
      ...['wrote 0', 'wrote 1'],
      ...range(0, 8).map(() => 'SERVICE_UNAVAILABLE'),
    ]);
    expect(writes.batches).toEqual([[0], [1], range(2, 8), [2]]);
  });

  it('has the one wait alone that meets a lock, and gives up the rest when another does', async () => {
    writes.fault = (items) => (items.includes(5) ? locked : undefined);
    expect(await addTen()).toEqual(range(0, 10).map((item) => (item === 5 ? 'SERVICE_UNAVAILABLE' : `wrote ${item}`)));
    writes.fault = (items) => (items.some((item) => item >= 5) ? locked : undefined);
    expect(await addTen()).toEqual(range(0, 10).map((item) => (item >= 5 ? 'SERVICE_UNAVAILABLE' : `wrote ${item}`)));
    expect(writes.batches.slice(-2)).toEqual([[5], [6]]);
  });

  it('tells all that wait when everything is locked, and keeps nobody waiting for one after the other', async () => {
    writes.fault = () => locked;
    const results = await addWhileTwoAreOnTheirWay(range(2, 400));
    await writes.finishAll();
    await expect(Promise.all(results)).resolves.toEqual(range(0, 402).map(() => 'SERVICE_UNAVAILABLE'));
    expect(writes.batches).toEqual([[0], [1], range(2, 128), range(130, 128), range(258, 128)]);
  });

  it('tries none alone of those who come while everything is locked, until something gets through', async () => {
    writes.fault = () => locked;
    await addTen();
    expect(await addTen()).toEqual(range(0, 10).map(() => 'SERVICE_UNAVAILABLE'));
    expect(writes.batches).toEqual([range(0, 10), [0], [1], range(0, 10)]);
    writes.fault = () => undefined;
    await addTen();
    writes.fault = (items) => (items.includes(5) ? locked : undefined);
    expect(await addTen()).toEqual(range(0, 10).map((item) => (item === 5 ? 'SERVICE_UNAVAILABLE' : `wrote ${item}`)));
  });

  describe('of a database that is too slow for large batches', () => {
    const tooSlow = ServiceError.unavailable(Object.assign(new Error('too slow'), { code: '57014' }));
    const answers: string[] = [];
    beforeEach(() => {
      answers.length = 0;
      writes.fault = ({ length }) => (length > 20 ? tooSlow : undefined);
    });
    afterEach(() => jest.restoreAllMocks());

    const add = async (count: number) => {
      for (const item of range(0, count))
        void commits.add(item).then(
          () => answers.push('written'),
          ({ code }: ServiceError) => answers.push(code),
        );
      await delay(0);
    };
    const sizes = () => writes.batches.splice(0).map(({ length }) => length);

    /** Two batches of 30, the second of which is on its way, and 60 who wait. */
    async function meetIt(): Promise<void> {
      await add(60);
      await add(60);
      await writes.finish();
    }

    it('asks for half as many, and has only those wait who go in the next two', async () => {
      await meetIt();
      expect(sizes()).toEqual([30, 30, 15]);
      expect(answers).toEqual(Array.from({ length: 30 + 30 }, () => 'SERVICE_UNAVAILABLE'));
      await add(20);
      expect(answers).toHaveLength(60 + 5);
      await writes.finishAll();
      expect(answers.filter((answer) => answer === 'written')).toHaveLength(30 + 15);
    });

    it('asks for twice as many after each batch that is quick', async () => {
      jest.spyOn(performance, 'now').mockReturnValue(0);
      await meetIt();
      await writes.finishAll();
      expect(sizes()).toEqual([30, 30, 15, 15]);
      writes.fault = () => undefined;
      await add(100);
      expect(sizes()).toEqual([30, 60]); // the first is half of what may go, because none is on its way
      await writes.finishAll();
    });

    it('asks for one more after each full batch that is not', async () => {
      let now = 0;
      jest.spyOn(performance, 'now').mockImplementation(() => (now += 250));
      await meetIt();
      await writes.finishAll();
      expect(sizes()).toEqual([30, 30, 15, 15]);
      for (let times = 0; times < 2; times += 1) {
        await add(64);
        await writes.finishAll();
      }
      expect(sizes()).toEqual([8, 16, 8, 9, 17, 8]); // halves first, because none is on its way
    });
  });

  it('ends a batch before the item that would make it too heavy', async () => {
    const results = range(9_998, 10).map((item) => commits.add(item));
    await turn();
    await writes.finishAll();
    expect(writes.batches.map(({ length }) => length)).toEqual([4, 2, 2, 2]);
    await Promise.all(results);
  });

  it('fills a batch up to what it may weigh', async () => {
    const heavy = new Batcher(writes.write, () => 500);
    const results = range(0, 3).map((item) => heavy.add(item));
    await turn();
    await writes.finishAll();
    expect(writes.batches).toEqual([[0, 1], [2]]);
    await Promise.all(results);
  });

  it('sends an item alone that is too heavy by itself', async () => {
    const heavy = new Batcher(writes.write, (item) => (item === 1 ? Infinity : 1));
    const results = [0, 1, 2, 3].map((item) => heavy.add(item));
    await turn();
    await writes.finishAll();
    expect(writes.batches).toEqual([[0], [1], [2, 3]]);
    await Promise.all(results);
  });

  it('gives a refusal that is not about the database to the one that it is about', async () => {
    writes.fault = (items) => (items.includes(5) ? new ServiceError('ORDER_NOT_FOUND', 'no such order') : undefined);
    const results = range(0, 10).map((item) => commits.add(item).catch((error: ServiceError) => error.code));
    await turn();
    await writes.finishAll();
    const expected = range(0, 10).map((item) => (item === 5 ? 'ORDER_NOT_FOUND' : `wrote ${item}`));
    await expect(Promise.all(results)).resolves.toEqual(expected);
  });

  it('refuses at once when 1,000 wait, and takes more when some have gone', async () => {
    const results = await addWhileTwoAreOnTheirWay(range(2, 128)); // go as a third batch
    await turn();
    results.push(...range(130, 1_000).map((item) => commits.add(item)));
    const refused = await commits.add(1_130).catch((error: ServiceError) => error);
    expect(refused).toMatchObject({ code: 'SERVICE_UNAVAILABLE', headers: { 'Retry-After': '1' } });
    await writes.finish();
    results.push(commits.add(1_131));
    await turn();
    await writes.finishAll();
    expect(new Set(await Promise.all(results)).size).toBe(1_131);
  });

  it("writes in no client's context, and gives the result back in the client's own", async () => {
    const seen: unknown[] = [];
    const own = new Batcher(
      async (items: readonly number[]) => {
        seen.push(currentContext()?.principal);
        await delay(0);
        return items;
      },
      () => 1,
    );
    const context = { ...newContext(), principal: { clientId: 'a', tenantId: 't', scopes: new Set<string>() } };
    const after = await runInContext(context, async () => {
      await own.add(1);
      return currentContext();
    });
    expect(seen).toEqual([undefined]);
    expect(after).toBe(context);
  });
});
