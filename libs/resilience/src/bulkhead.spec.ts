import { getEventListeners } from 'node:events';
import { Bulkhead } from './bulkhead';

describe('Bulkhead', () => {
  beforeEach(() => jest.useFakeTimers());
  afterEach(() => jest.useRealTimers());

  /** Names of those who got a place, in that order. */
  const admitted: string[] = [];
  beforeEach(() => admitted.splice(0));
  const enter = async (bulkhead: Bulkhead, name: string, maxWaitMs = 1_000, signal?: AbortSignal) => {
    const hasPlace = bulkhead.tryEnter() || (await bulkhead.waitToEnter(maxWaitMs, signal));
    if (hasPlace) admitted.push(name);
    return hasPlace;
  };
  const settled = () => jest.advanceTimersByTimeAsync(0);

  it('gives each place that is left to the caller that has waited longest', async () => {
    const bulkhead = new Bulkhead(2);
    for (const name of ['a', 'b', 'c', 'd', 'e']) void enter(bulkhead, name);
    await settled();
    expect(admitted).toEqual(['a', 'b']);
    bulkhead.leave();
    await settled();
    expect(admitted).toEqual(['a', 'b', 'c']);
    bulkhead.leave();
    bulkhead.leave();
    bulkhead.leave();
    bulkhead.leave();
    await settled();
    expect(admitted).toEqual(['a', 'b', 'c', 'd', 'e']);
    const places = ['f', 'g', 'h'].map((name) => enter(bulkhead, name, 0));
    expect(await Promise.all(places)).toEqual([true, true, false]);
  });

  it('sends away who has waited too long, aborts, or may not wait at all, and keeps no place for them', async () => {
    const bulkhead = new Bulkhead(1);
    await enter(bulkhead, 'first');
    const abort = new AbortController();
    const late = enter(bulkhead, 'late', 50);
    const aborted = enter(bulkhead, 'aborted', 1_000, abort.signal);
    const patient = enter(bulkhead, 'patient', 1_000, new AbortController().signal);
    expect(await enter(bulkhead, 'hasty', 0)).toBe(false);
    expect(await enter(bulkhead, 'aborted before', 1_000, AbortSignal.abort())).toBe(false);
    await jest.advanceTimersByTimeAsync(50);
    expect(await late).toBe(false);
    abort.abort();
    expect(await aborted).toBe(false);
    bulkhead.leave();
    expect(await patient).toBe(true);
    expect(admitted).toEqual(['first', 'patient']);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('leaves no listener on a signal', async () => {
    const bulkhead = new Bulkhead(1);
    const { signal } = new AbortController();
    bulkhead.tryEnter();
    const waiting = bulkhead.waitToEnter(1_000, signal);
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    bulkhead.leave();
    await waiting;
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('sends all away when it closes', async () => {
    const bulkhead = new Bulkhead(1);
    bulkhead.tryEnter();
    const waiting = [bulkhead.waitToEnter(1_000), bulkhead.waitToEnter(1_000)];
    bulkhead.close();
    expect(await Promise.all(waiting)).toEqual([false, false]);
  });
});
