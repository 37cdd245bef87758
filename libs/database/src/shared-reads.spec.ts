import { ServiceError } from '@platform/errors';
import { SharedReads } from './shared-reads';

const turn = () => new Promise(setImmediate);

/** A read that ends when it is told to. */
function reads() {
  const begun: { end: (result: string) => void; fail: (error: Error) => void }[] = [];
  const work = () =>
    new Promise<string>((resolve, reject) => {
      begun.push({ end: resolve, fail: reject });
    });
  return { begun, work };
}

describe('SharedReads', () => {
  it('reads once for those who ask together', async () => {
    const shared = new SharedReads<string>();
    const { begun, work } = reads();
    const results = Promise.all([shared.read('a', work), shared.read('a', work), shared.read('a', work)]);
    await turn();
    expect(begun).toHaveLength(1);
    begun[0]!.end('1');
    expect(await results).toEqual(['1', '1', '1']);
  });

  it('gives nobody what was read before it asked', async () => {
    const shared = new SharedReads<string>();
    const { begun, work } = reads();
    const first = shared.read('a', work);
    await turn();
    const second = shared.read('a', work);
    const third = shared.read('a', work);
    await turn();
    expect(begun).toHaveLength(1);
    begun[0]!.end('1');
    expect(await first).toBe('1');
    await turn();
    expect(begun).toHaveLength(2);
    const fourth = shared.read('a', work);
    begun[1]!.end('2');
    expect(await Promise.all([second, third])).toEqual(['2', '2']);
    await turn();
    begun[2]!.end('3');
    expect(await fourth).toBe('3');
  });

  it('has who asks when a read ends share the one that waited for it', async () => {
    const shared = new SharedReads<string>();
    const { begun, work } = reads();
    const first = shared.read('a', work);
    await turn();
    const second = shared.read('a', work);
    const third = first.then(() => shared.read('a', work));
    begun[0]!.end('1');
    await turn();
    expect(begun).toHaveLength(2);
    begun[1]!.end('2');
    await turn();
    begun[2]?.end('3');
    expect(await Promise.all([second, third])).toEqual(['2', '2']);
  });

  it('has other keys read at once', async () => {
    const shared = new SharedReads<string>();
    const { begun, work } = reads();
    const results = Promise.all([shared.read('a', work), shared.read('b', work)]);
    await turn();
    expect(begun).toHaveLength(2);
    begun[1]!.end('b');
    begun[0]!.end('a');
    expect(await results).toEqual(['a', 'b']);
  });

  it('tells a fault to those who share it, and reads again for the next', async () => {
    const shared = new SharedReads<string>();
    const { begun, work } = reads();
    const failing = Promise.allSettled([shared.read('a', work), shared.read('a', work)]);
    await turn();
    const next = shared.read('a', work);
    begun[0]!.fail(new Error('wrong'));
    expect((await failing).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await turn();
    begun[1]!.end('right');
    expect(await next).toBe('right');
  });

  it('lets nobody wait again for a database that is away', async () => {
    const shared = new SharedReads<string>();
    const { begun, work } = reads();
    const first = shared.read('a', work);
    await turn();
    const waiting = Promise.allSettled([first, shared.read('a', work), shared.read('a', work)]);
    begun[0]!.fail(ServiceError.unavailable(new Error('away')));
    expect((await waiting).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(begun).toHaveLength(1);
    const later = shared.read('a', work);
    await turn();
    begun[1]!.end('back');
    expect(await later).toBe('back');
  });

  it('keeps nothing of reads that are done', async () => {
    const shared = new SharedReads<string>();
    for (const key of ['a', 'b']) await shared.read(key, () => Promise.resolve(key));
    expect(shared).toMatchObject({ last: new Map() });
  });
});
