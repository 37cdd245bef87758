import dns from 'node:dns';
import { getEventListeners } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { inspect } from 'node:util';
import { Logger } from '@nestjs/common';
import type { OutboundSettings } from '@platform/config';
import { currentContext, newContext, parseTraceparent, runInContext, traceparent } from '@platform/request-context';
import { Spans } from '@platform/tracing';
import { Counter, Gauge, Histogram } from 'prom-client';
import { OutboundClient } from './outbound-client';
import { OutboundFailure } from './outbound-failure';
import type { OutboundRequest, OutboundResponse } from './outbound-request';

interface Received {
  readonly at: number;
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

type Behaviour = (req: IncomingMessage, res: ServerResponse) => void;

const answer =
  (status: number, body = '{}', headers: Record<string, string | string[]> = {}): Behaviour =>
  (_, res) =>
    res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body);
const hang: Behaviour = () => undefined;
const reset: Behaviour = (req) => req.socket.resetAndDestroy();
const later =
  (ms: number, behaviour: Behaviour): Behaviour =>
  (req, res) =>
    void setTimeout(() => behaviour(req, res), ms);

/** A dependency that behaves as told: each request takes the next behaviour, and the last one stays. */
async function startDependency(...behaviours: Behaviour[]) {
  const received: Received[] = [];
  const sockets: Socket[] = [];
  let inFlight = 0;
  let mostInFlight = 0;
  const server = createServer((req, res) => {
    let body = '';
    req.setEncoding('utf8');
    req.on('data', (chunk: string) => (body += chunk));
    req.on('end', () => {
      received.push({ at: performance.now(), method: req.method, url: req.url, headers: req.headers, body });
      mostInFlight = Math.max(mostInFlight, (inFlight += 1));
      res.once('close', () => (inFlight -= 1));
      (behaviours.length > 1 ? behaviours.shift() : behaviours[0])?.(req, res);
    });
  });
  server.on('connection', (socket) => sockets.push(socket));
  const listen = (port: number) => new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  await listen(0);
  const { port } = server.address() as AddressInfo;
  const stop = () => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => void server.close(() => resolve()));
  };
  onEnd(stop);
  return {
    url: `http://127.0.0.1:${port}`,
    received,
    sockets,
    behave: (...next: Behaviour[]) => behaviours.splice(0, behaviours.length, ...next),
    mostInFlight: () => mostInFlight,
    stop,
  };
}

const SETTINGS: OutboundSettings = {
  url: 'http://127.0.0.1:1',
  // Long, so that an answer that is only late is not taken for none.
  attemptTimeoutMs: 10_000,
  deadlineMs: 30_000,
  maxAttempts: 3,
  backoffMs: 2,
  backoffMaxMs: 10,
  maxConcurrent: 20,
  token: undefined,
  // A circuit that stays closed, where a test is not about it.
  breaker: { failurePercent: 50, minCalls: 1_000, windowMs: 10_000, openMs: 100 },
};

const BREAKER = { failurePercent: 50, minCalls: 4, windowMs: 10_000, openMs: 100 };

function startClient(url: string, settings: Partial<OutboundSettings> = {}) {
  const registers: [] = [];
  const requests = new Counter({ name: 'requests', help: '-', labelNames: ['outcome'], registers });
  const duration = new Histogram({ name: 'duration', help: '-', registers });
  const circuitState = new Gauge({ name: 'circuit', help: '-', labelNames: ['name'], registers });
  const metrics = { requests, duration, circuitState };
  const spans = new Spans({ spans: undefined });
  const client = new OutboundClient('payment', { ...SETTINGS, url, ...settings }, metrics, spans);
  onEnd(() => client.onApplicationShutdown());
  return {
    client,
    get: (request: Partial<OutboundRequest> = {}) => client.request({ method: 'GET', path: '/', ...request }),
    failed: (request: Partial<OutboundRequest> = {}) =>
      failureOf(client.request({ method: 'GET', path: '/', ...request })),
    outcomes: async () => {
      const { values } = await requests.get();
      return Object.fromEntries(values.map(({ labels, value }) => [labels.outcome, value]));
    },
    attemptsMeasured: async () =>
      (await duration.get()).values.find(({ metricName }) => metricName === 'duration_count')?.value ?? 0,
    circuit: async () => (await circuitState.get()).values[0],
  };
}

async function failureOf(promise: Promise<unknown>): Promise<OutboundFailure> {
  const error = await promise.then(
    (value) => new Error(`resolved with ${inspect(value)}`),
    (error: unknown) => error,
  );
  if (error instanceof OutboundFailure) return error;
  throw error;
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await isTrue()); tries += 1) {
    if (tries > 200) throw new Error('it did not come true within a second');
    await delay(5);
  }
}

/**
 * Whichever comes first: the promise, or 'late' after so many ms. Timers of one process keep their order however late they
 * are, so that a time limit can be measured by another.
 */
const before = <T>(ms: number, promise: Promise<T>) => Promise.race([promise, delay(ms, 'late', { ref: false })]);

async function tookMs(promise: Promise<unknown>): Promise<number> {
  const start = performance.now();
  await promise;
  return performance.now() - start;
}

const cleanups: (() => unknown)[] = [];
const onEnd = (cleanup: () => unknown) => cleanups.push(cleanup);
const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown) => unhandled.push(reason);

beforeEach(() => {
  process.on('unhandledRejection', onUnhandled);
  jest.spyOn(Logger.prototype, 'warn').mockImplementation();
  jest.spyOn(Logger.prototype, 'log').mockImplementation();
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  await delay(5);
  process.off('unhandledRejection', onUnhandled);
  jest.restoreAllMocks();
  expect(unhandled.splice(0)).toEqual([]);
});

describe('an answer', () => {
  it('has its status, its headers in lower case and its JSON', async () => {
    const dependency = await startDependency(
      answer(201, '{"id":"pay_1"}', { 'X-Thing': 'A', 'Set-Cookie': ['a=1', 'b=2'] }),
    );
    const { client } = startClient(`${dependency.url}/api/`);
    const request = { method: 'POST', path: '/v1/payments?x=1', body: { amount: '1.00' } } as const;
    expect(await client.request({ ...request, headers: { 'X-Own': 'yes' } })).toEqual({
      status: 201,
      headers: expect.objectContaining({ 'x-thing': 'A', 'set-cookie': 'a=1, b=2' }),
      body: { id: 'pay_1' },
    });
    expect(dependency.received).toMatchObject([
      {
        method: 'POST',
        url: '/api/v1/payments?x=1',
        body: '{"amount":"1.00"}',
        headers: { 'content-type': 'application/json', accept: 'application/json', 'x-own': 'yes' },
      },
    ]);
    expect(dependency.received[0]?.headers).not.toHaveProperty('idempotency-key');
  });

  it.each<[string, Behaviour]>([
    ['no JSON', answer(200, '<html>', { 'content-type': 'text/html' })],
    ['half of JSON', answer(200, '{"id":')],
    ['none', (_, res) => res.writeHead(204).end()],
  ])('has no body where the body is %s', async (_, behaviour) => {
    const { get } = startClient((await startDependency(behaviour)).url);
    expect((await get()).body).toBeUndefined();
  });

  it('is asked for without a content type where nothing is sent', async () => {
    const dependency = await startDependency(answer(200));
    await startClient(dependency.url).client.request({ method: 'POST', path: '/' });
    expect(dependency.received[0]?.headers).not.toHaveProperty('content-type');
  });

  it.each([302, 400, 401, 404, 409, 422])('with the status %i is an answer, and asked for once', async (status) => {
    const dependency = await startDependency(answer(status, '{"code":"X"}', { location: '/elsewhere' }));
    const { get, outcomes } = startClient(dependency.url);
    expect(await get()).toMatchObject({ status, body: { code: 'X' } });
    expect(dependency.received).toHaveLength(1);
    expect(await outcomes()).toEqual({ [status < 400 ? 'success' : 'refused']: 1 });
  });

  it('that its caller cannot use is given, and counted as unexpected', async () => {
    const dependency = await startDependency(answer(200, '<html>'), answer(200, '{}'), answer(404, '{}'));
    const { get, outcomes } = startClient(dependency.url);
    const isExpected = ({ body }: OutboundResponse) => body !== undefined;
    expect(await get({ isExpected })).toMatchObject({ status: 200, body: undefined });
    expect(await outcomes()).toEqual({ unexpected: 1 });
    await get({ isExpected });
    await get({ isExpected: () => false });
    expect(await outcomes()).toEqual({ unexpected: 1, success: 1, refused: 1 });
  });

  it('may have a mebibyte and no more', async () => {
    const json = (bytes: number) => JSON.stringify('x'.repeat(bytes - 2));
    const dependency = await startDependency(answer(200, json(2 ** 20)), answer(200, json(2 ** 20 + 1)));
    const { get, failed } = startClient(dependency.url, { maxAttempts: 1 });
    expect((await get()).body).toHaveLength(2 ** 20 - 2);
    expect(await failed()).toMatchObject({ kind: 'network', code: 'UND_ERR_RES_EXCEEDED_MAX_SIZE', wasSent: true });
    await until(() => dependency.sockets.at(-1)?.destroyed === true);
  });
});

describe('a retry', () => {
  it.each(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'] as const)('follows a failed %s', async (method) => {
    const dependency = await startDependency(answer(503), answer(200));
    const { client } = startClient(dependency.url);
    expect(await client.request({ method, path: '/' })).toMatchObject({ status: 200 });
    expect(dependency.received).toHaveLength(2);
  });

  it.each(['POST', 'PATCH'] as const)('follows a failed %s with a key, with the same key and bytes', async (method) => {
    const dependency = await startDependency(reset, answer(503), answer(201));
    const { client } = startClient(dependency.url);
    const request = { method, path: '/', body: { at: 1 }, idempotencyKey: 'key-1' };
    expect(await client.request(request)).toMatchObject({ status: 201 });
    expect(dependency.received.map(({ body, headers }) => [body, headers['idempotency-key']])).toEqual(
      Array.from({ length: 3 }, () => ['{"at":1}', 'key-1']),
    );
  });

  it.each(['POST', 'PATCH'] as const)('never follows a %s without a key', async (method) => {
    const dependency = await startDependency(answer(503), reset, hang);
    const { failed } = startClient(dependency.url);
    expect(await failed({ method })).toMatchObject({ kind: 'status', status: 503, wasSent: true });
    expect(await failed({ method })).toMatchObject({ kind: 'network', wasSent: true });
    expect(await failed({ method, attemptTimeoutMs: 1_000 })).toMatchObject({ kind: 'timeout', wasSent: true });
    expect(dependency.received).toHaveLength(3);
  });

  it.each([408, 425, 429, 500, 502, 503, 504])(
    'follows the status %i, until the attempts are used up',
    async (status) => {
      const dependency = await startDependency(answer(status));
      const { failed, outcomes } = startClient(dependency.url);
      expect(await failed()).toMatchObject({ kind: 'status', status, wasSent: true });
      expect(dependency.received).toHaveLength(3);
      expect(await outcomes()).toEqual({ [status < 500 ? 'refused' : 'failed']: 3 });
    },
  );

  it('follows a connection that was reset and an attempt that took too long', async () => {
    const dependency = await startDependency(reset, hang, answer(200));
    const { get, outcomes } = startClient(dependency.url, { attemptTimeoutMs: 1_500 });
    expect(await get()).toMatchObject({ status: 200 });
    expect(await outcomes()).toEqual({ network_error: 1, timeout: 1, success: 1 });
  });

  it('pauses, up to twice as long each time', async () => {
    jest.spyOn(Math, 'random').mockReturnValue(0.999);
    const dependency = await startDependency(answer(503));
    const { failed } = startClient(dependency.url, { backoffMs: 100, backoffMaxMs: 150 });
    await failed();
    const [first = 0, second = 0, third = 0] = dependency.received.map(({ at }) => at);
    expect(second - first).toBeGreaterThan(95);
    expect(third - second).toBeGreaterThan(145);
  });

  it('waits as long as Retry-After asks for', async () => {
    const dependency = await startDependency(answer(429, '', { 'retry-after': '1' }), answer(200));
    const { get } = startClient(dependency.url);
    await get();
    const [first = 0, second = 0] = dependency.received.map(({ at }) => at);
    expect(second - first).toBeGreaterThan(990);
  });

  it.each([429, 503])('is not waited for when Retry-After with a %i leads beyond the deadline', async (status) => {
    const dependency = await startDependency(answer(status, '', { 'retry-after': '30' }));
    const { failed } = startClient(dependency.url, { deadlineMs: 29_000 });
    const failure = failed();
    expect(await tookMs(failure)).toBeLessThan(10_000);
    expect(await failure).toMatchObject({ kind: 'status', status, retryAfterMs: 30_000 });
    expect(dependency.received).toHaveLength(1);
  });
});

describe('a timeout', () => {
  it.each<[string, Behaviour]>([
    ['no headers come', hang],
    ['the body does not end', (_, res) => void res.writeHead(200).write('{"id":')],
    [
      'the body drips',
      (_, res) => {
        res.writeHead(200);
        const timer = setInterval(() => res.write(' '), 20);
        res.once('close', () => clearInterval(timer));
      },
    ],
  ])('ends attempt and connection when %s', async (_, behaviour) => {
    const dependency = await startDependency(behaviour);
    const { failed } = startClient(dependency.url, { attemptTimeoutMs: 1_000, deadlineMs: 60_000, maxAttempts: 1 });
    const start = performance.now();
    const failure = before(1_400, failed());
    await until(() => dependency.received.length === 1);
    const [socket] = dependency.sockets;
    expect(socket?.destroyed).toBe(false);
    expect(await failure).toMatchObject({ kind: 'timeout', wasSent: true });
    expect(performance.now() - start).toBeGreaterThan(990);
    await until(() => socket?.destroyed === true);
  });

  it('ends an attempt whose connection does not come about', async () => {
    const { url, stop } = await startSilentServer();
    const { failed } = startClient(url, { attemptTimeoutMs: 2_000 });
    // The time for the connection alone ends only after a second, and has a code.
    const failure = failed({ attemptTimeoutMs: 100, method: 'POST' });
    expect(await before(500, failure)).toMatchObject({ kind: 'timeout', code: undefined });
    await stop();
  });

  it('is sooner for the connection alone, and then nothing was sent', async () => {
    const { url } = await startSilentServer();
    const { failed } = startClient(url, { attemptTimeoutMs: 30_000, deadlineMs: 60_000, maxAttempts: 1 });
    const failure = failed();
    expect(await tookMs(failure)).toBeLessThan(8_000); // of itself undici takes 10 s
    expect(await failure).toMatchObject({ kind: 'timeout', wasSent: false });
  });

  it('may be longer for a patient caller, also than the deadline', async () => {
    const dependency = await startDependency(later(300, answer(200)));
    const { get, failed } = startClient(dependency.url, { attemptTimeoutMs: 50, deadlineMs: 100 });
    expect(await get({ attemptTimeoutMs: 20_000 })).toMatchObject({ status: 200 });
    expect(await failed({ attemptTimeoutMs: 60 })).toMatchObject({ kind: 'timeout' });
  });
});

describe('the deadline', () => {
  it('holds for all attempts, and cuts the last one', async () => {
    const dependency = await startDependency(hang);
    const { failed } = startClient(dependency.url, { attemptTimeoutMs: 1_500, deadlineMs: 2_500, maxAttempts: 10 });
    jest.spyOn(Math, 'random').mockReturnValue(0.999); // no pause that would fit into the deadline's last millisecond
    const start = performance.now();
    expect(await before(2_950, failed())).toMatchObject({ kind: 'timeout' });
    expect(performance.now() - start).toBeGreaterThan(2_490);
    expect(dependency.received).toHaveLength(2);
  });

  it('cuts the first attempt, if that may take longer', async () => {
    const { failed } = startClient((await startDependency(hang)).url, { attemptTimeoutMs: 30_000, deadlineMs: 200 });
    expect(await before(5_000, failed())).toMatchObject({ kind: 'timeout', wasSent: true });
  });

  it('leaves out a pause that it would cut', async () => {
    jest.spyOn(Math, 'random').mockReturnValue(0.9);
    const dependency = await startDependency(answer(503));
    const { failed } = startClient(dependency.url, { deadlineMs: 20_000, backoffMs: 30_000, backoffMaxMs: 30_000 });
    expect(await tookMs(failed())).toBeLessThan(10_000);
    expect(dependency.received).toHaveLength(1);
  });
});

describe('an abort', () => {
  it('before the first attempt sends nothing', async () => {
    const dependency = await startDependency(answer(200));
    const { failed } = startClient(dependency.url);
    expect(await failed({ signal: AbortSignal.abort() })).toMatchObject({ kind: 'aborted', wasSent: false });
    expect(dependency.sockets).toEqual([]);
  });

  it('closes the connection and ends the request', async () => {
    const dependency = await startDependency(hang);
    const { failed, outcomes } = startClient(dependency.url);
    const abort = new AbortController();
    const failure = failed({ signal: abort.signal });
    await until(() => dependency.received.length === 1);
    abort.abort();
    expect(await failure).toMatchObject({ kind: 'aborted', wasSent: true });
    await until(() => dependency.sockets[0]?.destroyed === true);
    expect(dependency.received).toHaveLength(1);
    expect(await outcomes()).toEqual({ aborted: 1 });
  });

  it('ends a pause', async () => {
    const dependency = await startDependency(answer(503, '', { 'retry-after': '20' }));
    const { failed, outcomes } = startClient(dependency.url);
    const abort = new AbortController();
    const failure = failed({ signal: abort.signal });
    await until(async () => (await outcomes())['failed'] === 1);
    abort.abort();
    expect(await tookMs(failure)).toBeLessThan(10_000);
    expect(await failure).toMatchObject({ kind: 'aborted', wasSent: true });
  });

  it('is not listened for after the request', async () => {
    const dependency = await startDependency(answer(503), answer(200), answer(400));
    const { get } = startClient(dependency.url);
    const { signal } = new AbortController();
    await get({ signal });
    await get({ signal });
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});

describe('a failure', () => {
  it('knows that nobody was there', async () => {
    const dependency = await startDependency();
    await dependency.stop();
    const { failed, outcomes } = startClient(dependency.url);
    expect(await failed()).toMatchObject({ kind: 'network', code: 'ECONNREFUSED', wasSent: false });
    expect(await outcomes()).toEqual({ network_error: 3 });
  });

  it.each(['ENOTFOUND', 'EAI_AGAIN'])('knows that nothing was sent when its name is not found: %s', async (code) => {
    type Callback = (error: Error) => void;
    const lookup = (_name: string, _options: object, done: Callback) => done(Object.assign(new Error(code), { code }));
    jest.spyOn(dns, 'lookup').mockImplementation(lookup as never);
    const { failed } = startClient('http://payment.invalid', { maxAttempts: 1 });
    expect(await failed()).toMatchObject({ kind: 'network', code, wasSent: false });
  });

  it('does not forget that an earlier attempt was sent', async () => {
    const dependency = await startDependency(answer(503, '', { connection: 'close' }));
    const { failed } = startClient(dependency.url, { backoffMs: 400, backoffMaxMs: 400, maxAttempts: 2 });
    jest.spyOn(Math, 'random').mockReturnValue(0.9);
    const failure = failed();
    await until(() => dependency.received.length === 1);
    await dependency.stop();
    expect(await failure).toMatchObject({ kind: 'network', code: 'ECONNREFUSED', wasSent: true });
  });

  it.each<[string, Behaviour]>([
    ['a status', answer(503, '{"name":"canary"}', { 'x-name': 'canary' })],
    ['an answer that is not HTTP', (req) => req.socket.end('canary\r\n\r\n')],
    [
      'half an answer',
      (_, res) =>
        void res.writeHead(200, { 'content-length': 99, 'x-name': 'canary' }).write('canary', () => res.destroy()),
    ],
    ['a timeout', hang],
  ])('shows nothing of request or answer: %s', async (_, behaviour) => {
    const { client } = startClient((await startDependency(behaviour)).url, { attemptTimeoutMs: 100, maxAttempts: 1 });
    const failure = await failureOf(
      client.request({
        method: 'POST',
        path: '/canary',
        body: { name: 'canary' },
        headers: { 'x-name': 'canary' },
        idempotencyKey: 'canary',
      }),
    );
    expect(inspect(failure, { depth: 10, showHidden: true })).not.toContain('canary');
    expect(failure.message).toContain('payment');
  });

  it('of the caller is no failure of the dependency', async () => {
    const dependency = await startDependency(answer(200));
    const { client, get, outcomes } = startClient(dependency.url, { breaker: { ...BREAKER, minCalls: 1 } });
    await expect(client.request({ method: 'GET', path: 'no-slash' })).rejects.toThrow('path');
    expect(await get()).toMatchObject({ status: 200 });
    expect(await outcomes()).toEqual({ success: 1 });
  });
});

describe('the circuit', () => {
  const once = { maxAttempts: 1, breaker: BREAKER };

  it.each<[string, Behaviour, Partial<OutboundSettings>]>([
    ['5xx', answer(500), {}],
    ['reset connections', reset, {}],
    ['timeouts', hang, { attemptTimeoutMs: 500 }],
  ])('opens on %s, and then nothing is sent', async (_, behaviour, settings) => {
    const dependency = await startDependency(behaviour);
    const { client, failed, circuit, outcomes } = startClient(dependency.url, {
      maxAttempts: 1,
      breaker: { ...BREAKER, openMs: 60_000 },
      ...settings,
    });
    expect(await circuit()).toEqual({ value: 0, labels: { name: 'payment' } });
    for (let n = 0; n < 3; n += 1) await failed();
    expect(await circuit()).toMatchObject({ value: 0 });
    expect(() => client.assertCircuitNotOpen()).not.toThrow();
    await failed();
    expect(await circuit()).toMatchObject({ value: 2 });
    expect(() => client.assertCircuitNotOpen()).toThrow('open');
    const sockets = dependency.sockets.length;
    expect(await before(100, failed())).toMatchObject({ kind: 'circuit_open', wasSent: false });
    expect([dependency.received.length, dependency.sockets.length]).toEqual([4, sockets]);
    expect(await outcomes()).toMatchObject({ circuit_open: 1 });
  });

  it('opens when exactly its share of the attempts failed, and not below', async () => {
    const dependency = await startDependency(
      answer(200),
      answer(200),
      answer(500),
      answer(200),
      answer(500),
      answer(500),
    );
    const { get, failed, circuit } = startClient(dependency.url, once);
    await get();
    await get();
    await failed();
    await get();
    await failed();
    expect(await circuit()).toMatchObject({ value: 0 }); // 2 of 5
    await failed();
    expect(await circuit()).toMatchObject({ value: 2 }); // 3 of 6
  });

  it('opens at 100 %', async () => {
    const dependency = await startDependency(answer(500));
    const { failed, circuit } = startClient(dependency.url, { ...once, breaker: { ...BREAKER, failurePercent: 100 } });
    for (let n = 0; n < 4; n += 1) await failed();
    expect(await circuit()).toMatchObject({ value: 2 });
  });

  it('counts each attempt, and stops the retries of the request that opened it', async () => {
    const dependency = await startDependency(answer(500));
    const { failed, outcomes } = startClient(dependency.url, { maxAttempts: 10, breaker: BREAKER });
    expect(await failed()).toMatchObject({ kind: 'circuit_open', wasSent: true });
    expect(dependency.received).toHaveLength(4);
    expect(await outcomes()).toEqual({ failed: 4, circuit_open: 1 });
  });

  it('forgets what is older than its window', async () => {
    const dependency = await startDependency(answer(500));
    const { failed, circuit } = startClient(dependency.url, { ...once, breaker: { ...BREAKER, windowMs: 100 } });
    for (let n = 0; n < 3; n += 1) await failed();
    // A window is ten ticks of 10 ms, which come late on a busy machine; but one at least before each of these ends.
    for (let n = 0; n < 12; n += 1) await delay(12);
    await failed();
    expect(await circuit()).toMatchObject({ value: 0 });
  });

  it.each([400, 404, 408, 425, 429])('stays closed on %i', async (status) => {
    const dependency = await startDependency(answer(status));
    const { client, circuit } = startClient(dependency.url, once);
    for (let n = 0; n < 6; n += 1) await client.request({ method: 'GET', path: '/' }).catch(() => undefined);
    expect(await circuit()).toMatchObject({ value: 0 });
    expect(dependency.received).toHaveLength(6);
  });

  it('stays closed when callers abort', async () => {
    const { failed, circuit } = startClient((await startDependency(hang)).url, once);
    for (let n = 0; n < 6; n += 1) expect((await failed({ signal: AbortSignal.timeout(20) })).kind).toBe('aborted');
    expect(await circuit()).toMatchObject({ value: 0 });
  });

  async function open(settings: Partial<OutboundSettings> = {}) {
    const dependency = await startDependency(answer(500));
    const started = startClient(dependency.url, { ...once, ...settings });
    for (let n = 0; n < 4; n += 1) await runInContext(newContext(), () => started.failed());
    dependency.received.splice(0);
    return { dependency, ...started };
  }

  it('lets one probe through after a while, and closes when it is answered', async () => {
    const { dependency, client, get, failed, circuit } = await open();
    dependency.behave(later(50, answer(404)), answer(200));
    await delay(130);
    expect(await circuit()).toMatchObject({ value: 1 });
    expect(() => client.assertCircuitNotOpen()).not.toThrow();
    const probe = get();
    const others = await Promise.all([failed(), failed(), failed()]);
    expect(others.map(({ kind }) => kind)).toEqual(['circuit_open', 'circuit_open', 'circuit_open']);
    expect(await probe).toMatchObject({ status: 404 });
    expect(await circuit()).toMatchObject({ value: 0 });
    expect(dependency.received).toHaveLength(1);
    expect(await get()).toMatchObject({ status: 200 });
  });

  it('opens again when the probe fails, and closes later', async () => {
    const { dependency, get, failed, circuit } = await open();
    await delay(130);
    expect(await failed()).toMatchObject({ kind: 'status', status: 500 });
    expect(await circuit()).toMatchObject({ value: 2 });
    expect(await failed()).toMatchObject({ kind: 'circuit_open' });
    await delay(130);
    dependency.behave(answer(200));
    expect(await get()).toMatchObject({ status: 200 });
    expect(await circuit()).toMatchObject({ value: 0 });
  });

  it('does not close when the probe is aborted', async () => {
    const { dependency, failed, circuit } = await open();
    dependency.behave(hang);
    await delay(130);
    expect(await failed({ signal: AbortSignal.timeout(30) })).toMatchObject({ kind: 'aborted' });
    expect(await circuit()).toMatchObject({ value: 2 });
    await delay(130);
    expect(await circuit()).toMatchObject({ value: 1 });
  });

  it('does not hold against it what was before', async () => {
    const { dependency, get, failed, circuit } = await open();
    await Promise.all([failed(), failed()]);
    await delay(130);
    dependency.behave(answer(200), answer(500));
    await get();
    for (let n = 0; n < 3; n += 1) await failed();
    expect(await circuit()).toMatchObject({ value: 0 });
    await failed();
    expect(await circuit()).toMatchObject({ value: 2 });
  });

  it('says in the log when it opened and when it closed, each once', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn');
    const log = jest.spyOn(Logger.prototype, 'log');
    const contexts: unknown[] = [];
    for (const method of [warn, log]) method.mockImplementation(() => void contexts.push(currentContext()));
    const { dependency, get, failed } = await open();
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn).toHaveBeenCalledWith(
      { dependency: 'payment', openMs: 100 },
      'The circuit opened: too many calls failed, and none is made until a probe succeeds',
    );
    await delay(130);
    await failed();
    await delay(130);
    dependency.behave(answer(200));
    expect(log).not.toHaveBeenCalled();
    await runInContext(newContext(), () => get());
    expect(warn).toHaveBeenCalledTimes(1);
    expect(log).toHaveBeenCalledTimes(1);
    expect(log).toHaveBeenCalledWith({ dependency: 'payment' }, 'The circuit closed: calls are made again');
    expect(contexts).toEqual([undefined, undefined]); // it is not about one request
  });

  describe('ready', () => {
    it('resolves at once while the circuit is closed', async () => {
      const { client } = startClient((await startDependency(answer(200))).url);
      expect(await before(100, client.ready())).not.toBe('late');
    });

    it('waits while the circuit is open, and sends nothing', async () => {
      const { dependency, client, get, circuit } = await open({ breaker: { ...BREAKER, openMs: 1_000 } });
      dependency.behave(answer(200));
      expect(await circuit()).toMatchObject({ value: 2 });
      await client.ready();
      expect(await circuit()).toMatchObject({ value: 1 });
      expect(dependency.received).toEqual([]);
      expect(await get()).toMatchObject({ status: 200 });
    });

    it('waits for the outcome of a probe under way', async () => {
      const { dependency, client, get } = await open();
      dependency.behave(later(100, answer(200)));
      await client.ready();
      const probe = get();
      const took = await tookMs(client.ready());
      expect(took).toBeGreaterThan(70);
      await probe;
    });

    it('goes on waiting when the probe fails', async () => {
      const { dependency, client, failed } = await open();
      dependency.behave(later(50, answer(500)));
      await client.ready();
      const probe = failed();
      expect(await tookMs(client.ready())).toBeGreaterThan(120);
      expect(await probe).toMatchObject({ kind: 'status' });
    });

    it('leaves the probe to who has failed least, and of those waits longest', async () => {
      const { dependency, client, get } = await open();
      dependency.behave(answer(200));
      const order: string[] = [];
      const waits = [
        ['failed twice', 2],
        ['failed once', 1],
        ['failed once too', 1],
      ] as const;
      const all = waits.map(async ([who, failures]) => {
        await client.ready(undefined, { group: 'a', failures });
        order.push(who);
      });
      await until(() => order.length > 0); // not much longer: the next is woken when that one makes no probe
      expect(order).toEqual(['failed once']);
      await get();
      await Promise.all(all);
    });

    it('leaves the probe to the group that has lost the fewest', async () => {
      const { dependency, client, failed, get, circuit } = await open();
      dependency.behave((req, res) => answer(req.url?.endsWith('/bad') ? 500 : 200)(req, res));
      const probes: string[] = [];
      const probe = async (group: string, failures: number, request: () => Promise<unknown>) => {
        await client.ready(undefined, { group, failures });
        probes.push(group);
        await request();
      };
      const bad = Array.from({ length: 5 }, () => probe('bad', 0, () => failed({ path: '/bad' })));
      await until(() => probes.length === 1);
      await probe('good', 7, get);
      expect(probes.slice(0, 2)).toEqual(['bad', 'good']);
      expect(await circuit()).toMatchObject({ value: 0 });
      await Promise.all(bad);
    });

    it('leaves the probe to the next when that one makes none', async () => {
      const { client } = await open();
      const idle = client.ready(undefined, { group: 'a', failures: 0 });
      const next = client.ready(undefined, { group: 'a', failures: 1 });
      await idle;
      expect(await before(1_000, next)).not.toBe('late');
    });

    it('rejects with the reason of the signal, and leaves nothing behind', async () => {
      const { client } = await open({ breaker: { ...BREAKER, openMs: 60_000 } });
      await expect(client.ready(AbortSignal.abort(new Error('before')))).rejects.toThrow('before');
      const abort = new AbortController();
      const waiting = Array.from({ length: 20 }, () => client.ready(abort.signal));
      await delay(5);
      expect(getEventListeners(abort.signal, 'abort')).toHaveLength(20);
      abort.abort(new Error('enough'));
      for (const result of await Promise.allSettled(waiting)) {
        expect(result).toMatchObject({ status: 'rejected', reason: { message: 'enough' } });
      }
      expect(getEventListeners(abort.signal, 'abort')).toEqual([]);
      expect(inspect(client, { depth: 3 })).toContain('waiting: Map(0)');
    });

    it('leaves no listener on a signal that never aborts', async () => {
      const { client } = await open();
      const { signal } = new AbortController();
      await client.ready(signal);
      expect(getEventListeners(signal, 'abort')).toEqual([]);
    });

    it('rejects when the process stops', async () => {
      const { client } = await open({ breaker: { ...BREAKER, openMs: 60_000 } });
      const failure = failureOf(client.ready());
      await client.onApplicationShutdown();
      expect(await failure).toMatchObject({ kind: 'aborted', wasSent: false });
    });
  });
});

describe('the bulkhead', () => {
  it('lets attempts beyond its limit wait for others to end, in turn', async () => {
    const dependency = await startDependency(later(20, answer(200)));
    const { client, get, outcomes } = startClient(dependency.url, { maxConcurrent: 2 });
    await Promise.all(Array.from({ length: 8 }, () => get()));
    expect(dependency.mostInFlight()).toBe(2);
    expect(await outcomes()).toEqual({ success: 8 });
    await client.ready();
  });

  it('lets none wait so long that the deadline would cut its attempt short', async () => {
    const dependency = await startDependency(hang);
    const { get, failed } = startClient(dependency.url, { maxConcurrent: 1, attemptTimeoutMs: 900, deadlineMs: 1_000 });
    void get().catch(() => undefined);
    const begin = performance.now();
    expect(await failed()).toMatchObject({ kind: 'bulkhead_full', wasSent: false });
    expect(performance.now() - begin).toBeLessThan(700);
    expect(dependency.received).toHaveLength(1);
  });

  it('sends nothing for those who waited when the circuit opens, their signal aborts or the process stops', async () => {
    const dependency = await startDependency(hang, answer(500), hang);
    const { client, failed } = startClient(dependency.url, {
      ...{ maxConcurrent: 1, maxAttempts: 1, attemptTimeoutMs: 300, deadlineMs: 5_000 },
      breaker: { ...BREAKER, minCalls: 2, openMs: 60_000 },
    });
    const sent = [failed(), failed()];
    const abort = new AbortController();
    const aborted = failed({ signal: abort.signal });
    const waiting = failed();
    abort.abort();
    expect(await aborted).toMatchObject({ kind: 'aborted', wasSent: false });
    expect(await Promise.all(sent)).toMatchObject([{ kind: 'timeout' }, { kind: 'status' }]);
    expect(await waiting).toMatchObject({ kind: 'circuit_open', wasSent: false });
    expect(dependency.received).toHaveLength(2);

    const { client: other, failed: refused } = startClient(dependency.url, { maxConcurrent: 1 });
    const underWay = refused();
    const last = refused();
    await until(() => dependency.received.length === 3);
    void other.onApplicationShutdown();
    expect(await last).toMatchObject({ kind: 'aborted', wasSent: false });
    await Promise.all([underWay, client.onApplicationShutdown()]);
    expect(dependency.received).toHaveLength(3);
  });

  it('refuses what is too much at once, and does not hold it against the dependency', async () => {
    const { promise: mayAnswer, resolve: letAnswer } = Promise.withResolvers<void>();
    const dependency = await startDependency((req, res) => void mayAnswer.then(() => answer(200)(req, res)));
    const { client, get, failed, circuit, outcomes } = startClient(dependency.url, {
      ...{ maxConcurrent: 2, attemptTimeoutMs: 2_000, deadlineMs: 2_000 },
      breaker: { ...BREAKER, minCalls: 1 },
    });
    const admitted = [get(), get()];
    for (let n = 0; n < 5; n += 1) {
      expect(await before(100, failed())).toMatchObject({ kind: 'bulkhead_full', wasSent: false });
    }
    expect(await circuit()).toMatchObject({ value: 0 });
    await until(() => dependency.mostInFlight() === 2);
    letAnswer();
    await Promise.all(admitted);
    await Promise.all([get(), get()]);
    expect(dependency.mostInFlight()).toBe(2);
    expect(await outcomes()).toEqual({ success: 4, bulkhead_full: 5 });
    await client.ready();
  });

  it('has room again after failures, timeouts and aborts', async () => {
    const dependency = await startDependency(answer(500), reset, hang, hang, answer(200));
    const { get, failed } = startClient(dependency.url, { maxConcurrent: 1, maxAttempts: 1 });
    await failed();
    await failed();
    await failed({ attemptTimeoutMs: 1_000 });
    const abort = new AbortController();
    const aborted = failed({ signal: abort.signal });
    await until(() => dependency.received.length === 4);
    abort.abort();
    await aborted;
    expect(await get()).toMatchObject({ status: 200 });
  });
});

describe('connections', () => {
  it('are used again', async () => {
    const dependency = await startDependency(answer(200), answer(404), answer(503), answer(200));
    const { get } = startClient(dependency.url);
    for (let n = 0; n < 20; n += 1) {
      await get();
      await delay(2); // undici frees a connection a moment after the body has ended
    }
    expect(dependency.received).toHaveLength(21);
    expect(dependency.sockets).toHaveLength(1);
  });

  it('are never more than attempts may be made at once', async () => {
    const dependency = await startDependency(later(5, answer(200)));
    const { get } = startClient(dependency.url, { maxConcurrent: 5 });
    for (let n = 0; n < 5; n += 1) await Promise.all(Array.from({ length: 5 }, () => get()));
    expect(dependency.received).toHaveLength(25);
    expect(dependency.sockets).toHaveLength(5);
    expect(dependency.mostInFlight()).toBe(5);
  });
});

describe('the context', () => {
  it('goes along: the request id, and a span of its own for each attempt', async () => {
    const dependency = await startDependency(answer(503), answer(200));
    const { get } = startClient(dependency.url);
    const context = newContext({ requestId: 'req-7', traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00` });
    await runInContext(context, () => get());
    const spans = dependency.received.map(({ headers }) => parseTraceparent(headers['traceparent'] as string));
    expect(spans).toMatchObject([
      { traceId: 'a'.repeat(32), flags: '00' },
      { traceId: 'a'.repeat(32), flags: '00' },
    ]);
    expect(new Set([context.trace, ...spans].map((span) => span?.spanId)).size).toBe(3);
    expect(dependency.received.map(({ headers }) => headers['x-request-id'])).toEqual(['req-7', 'req-7']);
  });

  it('is begun where there is none, and cannot be given by the caller', async () => {
    const dependency = await startDependency(answer(503), answer(200));
    const { get } = startClient(dependency.url);
    const own = { traceparent: traceparent(newContext().trace), 'X-Request-Id': 'mine' };
    await get({ headers: { Traceparent: own.traceparent, 'X-Request-Id': 'mine' } });
    const [first, second] = dependency.received.map(({ headers }) => headers);
    const traces = [first, second].map((headers) => parseTraceparent(headers?.['traceparent'] as string));
    expect(traces[0]).toBeDefined();
    expect(traces[1]?.traceId).toBe(traces[0]?.traceId);
    expect(first?.['traceparent']).not.toBe(own.traceparent);
    expect(first?.['x-request-id']).toMatch(/^req-/);
    expect(second?.['x-request-id']).toBe(first?.['x-request-id']);
  });
});

describe('the spans', () => {
  it('are one for each attempt, under the id that the dependency was told, without query and body', async () => {
    jest.spyOn(Spans.prototype, 'has').mockReturnValue(true);
    const add = jest.spyOn(Spans.prototype, 'add');
    const dependency = await startDependency(answer(503), answer(404));
    const { get } = startClient(`${dependency.url}/api/`);
    const context = newContext();
    await runInContext(context, () => get({ path: '/things/1?name=mine' }));
    const { port, origin } = new URL(dependency.url);
    const facts = {
      name: 'GET',
      kind: 'CLIENT',
      attributes: {
        'http.request.method': 'GET',
        'server.address': '127.0.0.1',
        'server.port': Number(port),
        'url.full': `${origin}/api/things/1`,
        'peer.service': 'payment',
      },
    };
    expect(add.mock.calls.map(([, span]) => span)).toMatchObject([
      { ...facts, error: '503', attributes: { ...facts.attributes, 'http.response.status_code': 503 } },
      { ...facts, error: '404', attributes: { ...facts.attributes, 'http.response.status_code': 404 } },
    ]);
    const told = dependency.received.map(({ headers }) => headers['traceparent']);
    expect(add.mock.calls.map(([trace]) => traceparent(trace))).toEqual(told);
    for (const [trace] of add.mock.calls) expect(trace.parentSpanId).toBe(context.trace.spanId);
  });

  it.each([
    ['http://127.0.0.1:1', 1],
    ['https://127.0.0.1', 443],
  ])('say how an attempt at %s failed that had no answer, and at which port', async (url, port) => {
    jest.spyOn(Spans.prototype, 'has').mockReturnValue(true);
    const add = jest.spyOn(Spans.prototype, 'add');
    const { failed } = startClient(url, { maxAttempts: 1 });
    await failed();
    expect(add.mock.calls).toMatchObject([[{}, { error: 'network', attributes: { 'server.port': port } }]]);
  });
});

describe('the duration', () => {
  it('is measured of each attempt that was made', async () => {
    const dependency = await startDependency(answer(500));
    const { failed, attemptsMeasured } = startClient(dependency.url, { maxAttempts: 10, breaker: BREAKER });
    await failed();
    await failed();
    expect(await attemptsMeasured()).toBe(4);
  });
});

describe('the token', () => {
  const token = (value: string, expiresIn = 3_600) =>
    answer(200, JSON.stringify({ access_token: value, token_type: 'Bearer', expires_in: expiresIn }));

  async function startWithToken(...behaviours: Behaviour[]) {
    const endpoint = await startDependency(...behaviours);
    const api = await startDependency(answer(200));
    const settings = { clientId: 'order service', clientSecret: 's:ä', scope: 'payments:write' };
    const client = startClient(api.url, { token: { url: `${endpoint.url}/oauth/token`, ...settings } });
    const sent = () => api.received.map(({ headers }) => headers.authorization);
    return { endpoint, api, sent, ...client };
  }

  /** As if so much time had gone by. */
  function letPass(ms: number): void {
    const now = performance.now.bind(performance);
    jest.spyOn(performance, 'now').mockImplementation(() => now() + ms);
  }

  /** Stops the clock at so many ms from now. */
  function stopTheClock(afterMs = 0): void {
    const now = performance.now() + afterMs;
    jest.spyOn(performance, 'now').mockReturnValue(now);
  }

  it('is had by client credentials, and goes with each request', async () => {
    const { endpoint, sent, get } = await startWithToken(token('one'));
    await Promise.all([get(), get()]);
    await get({ headers: { Authorization: 'of the caller' } });
    expect(sent()).toEqual(['Bearer one', 'Bearer one', 'Bearer one']);
    expect(endpoint.received).toEqual([
      expect.objectContaining({
        method: 'POST',
        url: '/oauth/token',
        body: 'grant_type=client_credentials&scope=payments%3Awrite',
        headers: expect.objectContaining({
          authorization: `Basic ${Buffer.from('order+service:s%3A%C3%A4').toString('base64')}`,
          'content-type': 'application/x-www-form-urlencoded',
        }),
      }),
    ]);
  });

  it('is renewed before it ends, and used meanwhile', async () => {
    const { endpoint, sent, get } = await startWithToken(token('old', 100), later(50, token('new')));
    await get();
    letPass(90_000);
    await get();
    expect(sent()).toEqual(['Bearer old', 'Bearer old']);
    await until(async () => (await get()) && sent().at(-1) === 'Bearer new');
    expect(endpoint.received).toHaveLength(2);
  });

  it('that is still good is used while no other can be had', async () => {
    const { endpoint, sent, get } = await startWithToken(token('good', 100), answer(503));
    await get();
    stopTheClock(90_000); // what failed is asked for again a second later
    await Promise.all([get(), get()]);
    await delay(20);
    await get();
    expect(sent()).toEqual(Array(4).fill('Bearer good'));
    expect(endpoint.received).toHaveLength(2);
  });

  it('that has ended is not used', async () => {
    const { sent, get, failed } = await startWithToken(token('old', 0.02), answer(503));
    await get();
    await delay(30);
    expect(await failed()).toMatchObject({ kind: 'no_token', code: '503' });
    expect(sent()).toEqual(['Bearer old']);
  });

  it('that the dependency refuses is not used again', async () => {
    const { endpoint, api, sent, get, outcomes } = await startWithToken(token('revoked'), token('other'));
    await get();
    await delay(1_050);
    api.behave(answer(401), answer(200));
    expect((await get()).status).toBe(200);
    expect(sent()).toEqual(['Bearer revoked', 'Bearer revoked', 'Bearer other']);
    expect(endpoint.received).toHaveLength(2);
    expect(await outcomes()).toEqual({ refused: 1, success: 2 });
  });

  it('that is in use now is kept when the one before it is refused late', async () => {
    const { endpoint, api, sent, get } = await startWithToken(token('old', 0.02), token('new'));
    const { promise: isLate, resolve: beLate } = Promise.withResolvers<void>();
    api.behave((req, res) => void isLate.then(() => answer(401)(req, res)), answer(200));
    const first = get();
    await until(() => api.received.length === 1);
    await delay(30);
    await get();
    await delay(1_050);
    beLate();
    expect((await first).status).toBe(200);
    expect(sent()).toEqual(['Bearer old', 'Bearer new', 'Bearer new']);
    expect(endpoint.received).toHaveLength(2);
  });

  it('is not fetched anew for each attempt with a dependency that takes none', async () => {
    const { endpoint, api, failed } = await startWithToken(token('good'));
    stopTheClock(); // a token that was used for a second may be discarded
    api.behave(answer(401));
    for (let n = 0; n < 3; n += 1) expect(await failed()).toMatchObject({ kind: 'status', status: 401 });
    expect(api.received).toHaveLength(9);
    expect(endpoint.received).toHaveLength(1);
  });

  it('is waited for within the time of the attempt, and not by who has given up', async () => {
    const { api, get, failed } = await startWithToken(later(300, token('late')));
    const once = { method: 'POST' } as const;
    expect(await failed({ ...once, signal: AbortSignal.timeout(50) })).toMatchObject({
      kind: 'aborted',
      wasSent: false,
    });
    expect((await get()).status).toBe(200); // it waits for the same one
    expect(api.received).toHaveLength(1);
  });

  it('and the answer together have the time of an attempt', async () => {
    const { api, failed } = await startWithToken(later(1_000, token('late')));
    api.behave(hang);
    const start = performance.now();
    const failure = failed({ method: 'POST', attemptTimeoutMs: 2_000 });
    expect(await before(2_900, failure)).toMatchObject({ kind: 'timeout' });
    expect(performance.now() - start).toBeGreaterThan(1_950);
    expect(api.received).toHaveLength(1);
  });

  it('that comes too late, or after the shutdown began, is sent nowhere', async () => {
    const slow = await startWithToken(later(1_500, token('late')));
    expect(await slow.failed({ method: 'POST', attemptTimeoutMs: 1_000 })).toMatchObject({
      kind: 'no_token',
      wasSent: false,
    });
    expect(slow.api.received).toEqual([]);
    const ending = await startWithToken(later(200, token('late')));
    const failure = ending.failed({ method: 'POST' });
    await delay(50);
    void ending.client.onApplicationShutdown();
    expect(await failure).toMatchObject({ kind: 'aborted', wasSent: false });
    expect(ending.api.received).toEqual([]);
  });

  it.each(['"3600"', '3600'])('may say its life as %s', async (life) => {
    const body = `{"access_token":"a","token_type":"bearer","expires_in":${life}}`;
    const { endpoint, get } = await startWithToken(answer(200, body));
    await get();
    await get();
    expect(endpoint.received).toHaveLength(1);
  });

  it('is taken to live for a minute where its endpoint does not say', async () => {
    const { endpoint, get } = await startWithToken(answer(200, '{"access_token":"a","token_type":"bearer"}'));
    await get();
    stopTheClock(40_000);
    await get();
    expect(endpoint.received).toHaveLength(1);
    stopTheClock(20_000);
    await get();
    expect(endpoint.received).toHaveLength(2);
  });

  it.each<[string, Behaviour, string]>([
    ['refuses the client', answer(401, '{"error":"invalid_client"}'), '401'],
    ['gives something else', answer(200, '{"access_token":"a b","token_type":"Bearer"}'), 'not a token'],
    ['gives a token of another type', answer(200, '{"access_token":"a","token_type":"DPoP"}'), 'not a token'],
    ['does not answer', reset, 'ECONNRESET'],
  ])('is asked for again when its endpoint %s, and without one nothing is sent', async (_, behaviour, code) => {
    const { endpoint, api, failed, outcomes } = await startWithToken(behaviour);
    const failure = await failed();
    expect(failure).toMatchObject({ kind: 'no_token', code, wasSent: false });
    expect(failure.message).toBe(`The call to payment failed: no_token ${code}`);
    expect(endpoint.received).toHaveLength(SETTINGS.maxAttempts);
    expect(api.received).toEqual([]);
    expect(await outcomes()).toEqual({ no_token: SETTINGS.maxAttempts });
  });

  it('leaves no connection to its endpoint behind at the shutdown', async () => {
    const { endpoint, get, client } = await startWithToken(token('one'));
    await get();
    expect(endpoint.sockets.map(({ destroyed }) => destroyed)).toEqual([false]);
    await client.onApplicationShutdown();
    await until(() => endpoint.sockets.every(({ destroyed }) => destroyed));
  });

  it('that cannot be had opens the circuit', async () => {
    const endpoint = await startDependency(answer(500));
    const api = await startDependency(answer(200));
    const source = { url: endpoint.url, clientId: 'a', clientSecret: 'b', scope: undefined };
    const { failed } = startClient(api.url, { token: source, breaker: BREAKER, maxAttempts: 4 });
    expect((await failed()).kind).toBe('no_token');
    expect((await failed()).kind).toBe('circuit_open');
    expect(endpoint.received.map(({ url, body }) => [url, body])).toEqual(
      Array(4).fill(['/', 'grant_type=client_credentials']),
    );
  });
});

describe('the shutdown', () => {
  it('lets an attempt under way finish, sends nothing more and closes the connections', async () => {
    const dependency = await startDependency(answer(200), later(150, answer(200)));
    const { client, get, failed } = startClient(dependency.url);
    await get();
    const last = get();
    await until(() => dependency.received.length === 2);
    const stopped = client.onApplicationShutdown();
    expect(await failed()).toMatchObject({ kind: 'aborted', wasSent: false });
    expect(await tookMs(stopped)).toBeLessThan(5_000); // and not the 12 s that it may take at most
    expect(await last).toMatchObject({ status: 200 });
    await until(() => dependency.sockets.every(({ destroyed }) => destroyed));
    await client.onApplicationShutdown();
    expect(dependency.received).toHaveLength(2);
  });

  it('finds no timer of an attempt that has ended, and stops that of the circuit', async () => {
    const [begin, repeat] = [jest.spyOn(globalThis, 'setTimeout'), jest.spyOn(globalThis, 'setInterval')];
    const [end, endRepeated] = [jest.spyOn(globalThis, 'clearTimeout'), jest.spyOn(globalThis, 'clearInterval')];
    const dependency = await startDependency(answer(200));
    const { client, get } = startClient(dependency.url);
    await get({ attemptTimeoutMs: 20_000 });
    await client.onApplicationShutdown();
    const ofAttempts = begin.mock.results.filter((_, n) => Number(begin.mock.calls[n]?.[1]) > 10_000);
    const timers = [...ofAttempts, ...repeat.mock.results].map(({ value }) => value as unknown);
    expect(timers).toHaveLength(2);
    const ended = [...end.mock.calls, ...endRepeated.mock.calls].flat();
    for (const timer of timers) expect(ended).toContain(timer);
  });

  it('ends the pause of a request', async () => {
    const dependency = await startDependency(answer(503, '', { 'retry-after': '20' }));
    const { client, failed, outcomes } = startClient(dependency.url);
    const failure = failed();
    await until(async () => (await outcomes())['failed'] === 1);
    await client.onApplicationShutdown();
    expect(await tookMs(failure)).toBeLessThan(10_000);
    expect(await failure).toMatchObject({ kind: 'aborted', wasSent: true });
  });

  it('does not wait longer than the attempt may take', async () => {
    const dependency = await startDependency(hang);
    const { client, failed } = startClient(dependency.url, { attemptTimeoutMs: 1_000 });
    const last = failed({ method: 'POST' });
    await until(() => dependency.received.length === 1);
    expect(await before(11_000, client.onApplicationShutdown())).not.toBe('late');
    expect(await last).toMatchObject({ kind: 'timeout', wasSent: true });
  });
});

/** Takes connections and never says a word, so that no TLS connection comes about. */
async function startSilentServer() {
  const sockets: Socket[] = [];
  const server = createTcpServer((socket) => void sockets.push(socket.on('error', () => undefined)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const stop = () => {
    sockets.forEach((socket) => socket.destroy());
    return new Promise<void>((resolve) => void server.close(() => resolve()));
  };
  onEnd(stop);
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, stop };
}
