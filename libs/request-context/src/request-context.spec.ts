import { setImmediate, setTimeout } from 'node:timers/promises';
import { currentContext, newContext, runInContext } from './request-context';

const MADE = /^req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const WELL_FORMED = /^[A-Za-z0-9._-]{1,128}$/;
const currentRequestId = () => currentContext()?.requestId;

describe('newContext', () => {
  it.each(['a', 'req-1234abcd', 'A.b_c-9', 'x'.repeat(128)])('keeps the request id %s', (requestId) => {
    expect(newContext({ requestId }).requestId).toBe(requestId);
  });

  it.each<[string, string | undefined]>([
    ['no id', undefined],
    ['an empty id', ''],
    ['129 characters', 'x'.repeat(129)],
    ['a blank', 'a b'],
    ['a line feed at the end', 'abc\n'],
    ['a log line of its own', 'a"}\n{"level":"error"'],
    ['a slash', 'a/b'],
    ['a letter beyond ASCII', 'é'],
    ['two headers in one', 'a, b'],
  ])('makes a request id where there is %s', (_, requestId) => {
    const made = newContext({ requestId }).requestId;
    expect(made).toMatch(MADE);
    expect(made).toMatch(WELL_FORMED);
  });

  it('makes another request id each time', () => {
    expect(newContext().requestId).not.toBe(newContext().requestId);
  });

  it('continues a trace in a new span', () => {
    const { trace } = newContext({ traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00' });
    expect(trace).toMatchObject({ traceId: '4bf92f3577b34da6a3ce929d0e0e4736', flags: '00' });
    expect(trace.spanId).not.toBe('00f067aa0ba902b7');
  });

  it.each([undefined, '', 'nonsense', `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`])(
    'starts a trace where the header is %p',
    (traceparent) => {
      const { trace } = newContext({ traceparent });
      expect(trace.traceId).toMatch(/^[0-9a-f]{32}$/);
      expect(trace.traceId).not.toBe('0'.repeat(32));
    },
  );

  it('knows neither a principal nor an order', () => {
    expect(Object.keys(newContext()).sort()).toEqual(['requestId', 'trace']);
  });
});

describe('runInContext', () => {
  const context = newContext({ requestId: 'outer' });

  it('returns what the work returns', () => {
    expect(runInContext(context, () => 42)).toBe(42);
  });

  it('throws what the work throws, and leaves the context', () => {
    const failure = new Error('failed');
    const run = () =>
      runInContext(context, () => {
        throw failure;
      });
    expect(run).toThrow(failure);
    expect(currentContext()).toBeUndefined();
  });

  it.each<[string, () => unknown]>([
    ['what the work calls', currentContext],
    ['what it awaits', async () => (await setImmediate(), currentContext())],
    ['what it schedules', () => setTimeout(1).then(currentContext)],
    ['a callback', () => new Promise((resolve) => process.nextTick(() => resolve(currentContext())))],
  ])('is found by %s', async (_, work) => {
    expect(await runInContext(context, work)).toBe(context);
  });

  it('ends with the work', async () => {
    await runInContext(context, () => setImmediate());
    expect(currentContext()).toBeUndefined();
  });

  it('gives way to an inner context and comes back', () => {
    const seen = runInContext(context, () => [
      currentRequestId(),
      runInContext(newContext({ requestId: 'inner' }), currentRequestId),
      currentRequestId(),
    ]);
    expect(seen).toEqual(['outer', 'inner', 'outer']);
  });

  it('keeps works that run at once apart', async () => {
    const ids = Array.from({ length: 20 }, (_, index) => `request-${index}`);
    const work = (requestId: string, index: number) =>
      runInContext(newContext({ requestId }), async () => {
        await setTimeout(index % 3);
        return currentRequestId();
      });
    expect(await Promise.all(ids.map(work))).toEqual(ids);
  });
});

describe('currentContext', () => {
  it('returns undefined outside of any work', () => {
    expect(currentContext()).toBeUndefined();
  });

  it('shows what was filled in on the way', async () => {
    const principal = { clientId: 'client', tenantId: 'tenant', scopes: new Set(['orders:read']) };
    const seen = await runInContext(newContext(), async () => {
      Object.assign(currentContext()!, { principal, orderId: 'ord_1' });
      await setImmediate();
      return currentContext();
    });
    expect(seen).toMatchObject({ principal, orderId: 'ord_1' });
  });
});
