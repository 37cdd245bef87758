import { once } from 'node:events';
import net from 'node:net';
import { Controller, Get, Logger, NotFoundException, Res } from '@nestjs/common';
import { Public } from '@platform/auth';
import { ServiceError } from '@platform/errors';
import type { Response } from 'express';
import { type Answer, type Api, anOrder, api, apiOnce, fetchToken, orderHead } from '../support/client';
import { startService, type TestService } from '../support/service';

let begun = 0;

@Public()
@Controller('broken')
class BrokenController {
  @Get()
  fail(): never {
    throw new Error('secret: postgres://user:password@host/db');
  }

  @Get('not-at-all')
  succeed(): void {
    begun += 1;
  }

  @Get('away')
  failForNow(): never {
    throw ServiceError.unavailable(new Error('the dependency is away'));
  }

  @Get('halfway')
  failHalfway(@Res() res: Response): never {
    res.write('half');
    throw new Error('too late to be said');
  }

  @Get('half')
  stopHalfway(@Res() res: Response): void {
    res.write('half');
  }

  @Get('nest')
  failAsNest(): never {
    throw new NotFoundException();
  }
}

describe('Errors', () => {
  let service: TestService;
  let call: Api;

  beforeAll(async () => {
    service = await startService({}, { beside: { controllers: [BrokenController] } });
    call = api(service.url, await fetchToken('order-orchestrator'));
  });
  afterAll(() => service.stop());

  const big = JSON.stringify(anOrder({ metadata: { a: 'x'.repeat(256 * 1024) } }));
  const cases: [string, number, string, () => Promise<Answer>][] = [
    ['an unknown route', 404, 'ROUTE_NOT_FOUND', () => call('/nope')],
    ['an unknown version', 404, 'ROUTE_NOT_FOUND', () => call('/v2/orders')],
    ['a method that the route has not', 405, 'METHOD_NOT_ALLOWED', () => call('/v1/orders', { method: 'DELETE' })],
    ['a path that is not valid percent-encoding', 400, 'MALFORMED_REQUEST', () => call('/v1/orders/%zz')],
    ['malformed JSON', 400, 'MALFORMED_JSON', () => call('/v1/orders', { body: '{"a":' })],
    ['a body that is a JSON scalar', 400, 'ORDER_VALIDATION_FAILED', () => call('/v1/orders', { body: '5' })],
    ['a body that is too large', 413, 'PAYLOAD_TOO_LARGE', () => call('/v1/orders', { body: big })],
    [
      'another media type',
      415,
      'UNSUPPORTED_MEDIA_TYPE',
      () => call('/v1/orders', { body: 'a=b', headers: { 'content-type': 'text/plain' } }),
    ],
    [
      'UTF-16, which JSON once could be',
      415,
      'UNSUPPORTED_MEDIA_TYPE',
      () =>
        call('/v1/orders', {
          body: '{\0}\0',
          headers: { 'content-type': 'application/json; charset=utf-16le' },
        }),
    ],
    [
      'another charset',
      415,
      'UNSUPPORTED_MEDIA_TYPE',
      () => call('/v1/orders', { body: '{}', headers: { 'content-type': 'application/json; charset=latin1' } }),
    ],
    [
      'another encoding',
      415,
      'UNSUPPORTED_MEDIA_TYPE',
      () => call('/v1/orders', { body: '{}', headers: { 'content-encoding': 'zstd-x' } }),
    ],
    ['a payload that does not fit', 400, 'ORDER_VALIDATION_FAILED', () => call('/v1/orders', { body: {} })],
    ['no token', 401, 'UNAUTHORIZED', () => api(service.url)('/v1/orders')],
    ['an unknown order', 404, 'ORDER_NOT_FOUND', () => call('/v1/orders/ord_x')],
    ['a crash', 500, 'INTERNAL_ERROR', () => call('/broken')],
    ["Nest's own 404 of a route that is there", 500, 'INTERNAL_ERROR', () => call('/broken/nest')],
  ];

  it.each(cases)('has one shape: %s', async (_, status, code, ask) => {
    const { status: answered, headers, body } = await ask();
    expect({ answered, body }).toMatchObject({ answered: status, body: { error: { code } } });
    expect(Object.keys(body)).toEqual(['error']);
    expect(body.error.message).toEqual(expect.any(String));
    expect(body.error.correlationId).toBe(headers.get('x-request-id'));
    expect(headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(headers.get('x-powered-by')).toBeNull();
    // A cache must not keep it, nor give it to who asked for problem details.
    expect([headers.get('cache-control'), headers.get('vary')]).toEqual(['no-store', 'Accept']);
  });

  it('reads no body of a request that is refused before', async () => {
    const cases: [string, Promise<Answer>][] = [
      ['ROUTE_NOT_FOUND', call('/nope', { body: '{' })],
      ['METHOD_NOT_ALLOWED', call('/v1/orders', { method: 'PUT', body: '{' })],
      ['UNAUTHORIZED', api(service.url)('/v1/orders', { body: '{' })],
      ['UNAUTHORIZED', api(service.url)('/v1/orders', { body: big })],
      ['INSUFFICIENT_SCOPE', api(service.url, await fetchToken('reporting'))('/v1/orders', { body: '{' })],
    ];
    for (const [code, answer] of cases) expect((await answer).body.error.code).toBe(code);
  });

  it('refuses a body that is no UTF-8 instead of mending it', async () => {
    const bytes = Buffer.from(JSON.stringify(anOrder({ customerId: 'caf\u00e9' })), 'latin1');
    const response = await fetch(`${service.url}/v1/orders`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${await fetchToken('order-orchestrator')}`,
        'content-type': 'application/json',
      },
      body: bytes,
    });
    expect([response.status, ((await response.json()) as { error: { code: string } }).error.code]).toEqual([
      400,
      'MALFORMED_JSON',
    ]);
  });

  it('refuses a body that is announced too large without waiting for it', async () => {
    const token = await fetchToken('order-orchestrator');
    const socket = net.connect(Number(new URL(service.url).port), '127.0.0.1');
    socket.write(`${orderHead(token, 'Content-Length: 99999999')}{`);
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    expect(chunk.toString()).toMatch(/^HTTP\/1\.1 413 /);
    socket.destroy();
  });

  describe('to a client that is still sending on a connection that is then closed', () => {
    const LENGTH = 5_000_000;

    /** @returns the connection, on which it was answered and all but the first byte of the body is still to come */
    async function answered(): Promise<net.Socket> {
      const socket = net.connect({ port: Number(new URL(service.url).port), host: '127.0.0.1', allowHalfOpen: true });
      socket.write(`POST /v1/orders HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: ${LENGTH}\r\n\r\n{`);
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      expect(chunk.toString()).toMatch(/^HTTP\/1\.1 401 /);
      await once(socket.resume(), 'end');
      return socket;
    }

    it('are not lost, because the rest is read', async () => {
      const socket = await answered();
      const closed = once(socket, 'close');
      socket.end(Buffer.alloc(LENGTH - 1));
      await expect(closed).resolves.toEqual([false]);
    });

    it('are the last: what is sent behind the rest is not begun', async () => {
      const socket = net.connect({ port: Number(new URL(service.url).port), host: '127.0.0.1', allowHalfOpen: true });
      const token = await fetchToken('order-orchestrator');
      socket.write(`${orderHead(token, 'Transfer-Encoding: chunked')}${big.length.toString(16)}\r\n${big}\r\n`);
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      expect(chunk.toString()).toMatch(/^HTTP\/1\.1 413 /);
      await once(socket.resume(), 'end');
      const closed = once(socket, 'close');
      socket.end('0\r\n\r\nGET /broken/not-at-all HTTP/1.1\r\nHost: a\r\n\r\n');
      await closed;
      await call('/broken/not-at-all');
      expect(begun).toBe(1);
    });

    it('keep the connection for no longer than 2 s', async () => {
      const socket = await answered();
      const start = performance.now();
      const sending = setInterval(() => socket.write('a'), 50);
      await once(socket, 'error').finally(() => clearInterval(sending));
      const ms = performance.now() - start;
      expect(ms).toBeGreaterThan(1_500);
      expect(ms).toBeLessThan(10_000); // machines are busy
      socket.destroy();
    });
  });

  it('takes no notice of an expectation that it does not know', async () => {
    const socket = net.connect(Number(new URL(service.url).port), '127.0.0.1');
    socket.write('GET /nope HTTP/1.1\r\nHost: a\r\nExpect: foo\r\n\r\n');
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    expect(chunk.toString()).toContain('"code":"ROUTE_NOT_FOUND"');
    socket.destroy();
  });

  it('names the methods that a route has', async () => {
    expect((await call('/v1/orders', { method: 'PUT' })).headers.get('allow')).toBe('GET, HEAD, POST');
    expect((await call('/v1/orders/ord_x', { method: 'POST' })).headers.get('allow')).toBe('GET, HEAD');
    expect((await call('/health/live', { method: 'OPTIONS' })).headers.get('allow')).toBe('GET, HEAD');
  });

  it.each(['/v1/orders/ord_x/cancel', '/v1/customers/cust_123/erasure'])(
    'has no HEAD where there is no GET: %s',
    async (route) => {
      const { status, headers } = await call(route, { method: 'HEAD' });
      expect([status, headers.get('allow')]).toEqual([405, 'POST']);
    },
  );

  it('lets nothing of a cause out', async () => {
    const { text } = await call('/broken');
    expect(text).not.toMatch(/secret|password|Error|at /);
  });

  it('are logged with their cause where the service is at fault, and not where the client is', async () => {
    const once = apiOnce(service.url);
    const error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    const statuses = [];
    for (const path of ['/nope', '/broken', '/broken/away']) statuses.push((await once(path)).status);
    const logged = error.mock.calls.map(([facts]) => facts as { err?: Error; code: string });
    error.mockRestore();
    expect(statuses).toEqual([404, 500, 503]);
    // Without those that say of each request how it ended.
    expect(logged.filter(({ err }) => err).map(({ code, err }) => [code, err?.message])).toEqual([
      ['INTERNAL_ERROR', 'secret: postgres://user:password@host/db'],
      ['SERVICE_UNAVAILABLE', 'the dependency is away'],
    ]);
  });

  it('gives the same facts as problem details to a client that asks for them', async () => {
    const headers = { accept: 'application/problem+json', 'x-request-id': 'my-request' };
    const { status, headers: answered, body } = await call('/v1/orders?limit=0', { headers });
    expect(status).toBe(400);
    expect(answered.get('content-type')).toBe('application/problem+json; charset=utf-8');
    expect(body).toEqual({
      type: 'urn:order-a2a:problem:order-validation-failed',
      title: 'Bad Request',
      status: 400,
      detail: 'Invalid order query',
      instance: '/v1/orders',
      code: 'ORDER_VALIDATION_FAILED',
      errors: [{ field: 'limit', message: 'limit must not be less than 1' }],
      correlationId: 'my-request',
    });
    const preferred = await call('/nope', { headers: { accept: 'application/json;q=0.5, application/problem+json' } });
    expect(preferred.body.code).toBe('ROUTE_NOT_FOUND');
    const named = await call('/nope', { headers: { accept: 'application/problem+json; charset=utf-8' } });
    expect(named.body.code).toBe('ROUTE_NOT_FOUND');
    const ordinary = await call('/nope', { headers: { accept: '*/*' } });
    expect(ordinary.body.error.code).toBe('ROUTE_NOT_FOUND');
  });

  it('gives back the request id of the client, and makes one where it is missing or malformed', async () => {
    expect((await call('/v1/orders', { headers: { 'x-request-id': 'a.B_9-z' } })).headers.get('x-request-id')).toBe(
      'a.B_9-z',
    );
    const made = (await call('/v1/orders')).headers.get('x-request-id');
    expect(made).toMatch(/^[A-Za-z0-9._-]{1,128}$/);
    for (const malformed of ['has space', 'x'.repeat(129), 'ümlaut', '<script>']) {
      const { headers } = await call('/nope', { headers: { 'x-request-id': malformed } });
      expect(headers.get('x-request-id')).toMatch(/^req-/);
    }
  });

  it('break off an answer that has begun', async () => {
    const answer = fetch(`${service.url}/broken/halfway`, { signal: AbortSignal.timeout(10_000) });
    await expect(answer.then((response) => response.text())).rejects.toMatchObject({ name: 'TypeError' });
  });

  it('are not written into an answer that has begun', async () => {
    const socket = net.connect(Number(new URL(service.url).port), '127.0.0.1');
    let answer = '';
    socket.on('data', (chunk: Buffer) => (answer += chunk.toString()));
    socket.write('GET /broken/half HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(socket, 'data');
    socket.write('HELLO\r\n\r\n');
    await once(socket, 'close');
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer).not.toContain('MALFORMED_REQUEST');
  });

  it.each<[string, string, string]>([
    ['what is not HTTP', 'HELLO\r\n\r\n', '400 Bad Request'],
    ['headers that are too large', `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, '431'],
  ])('keeps its shape for %s', async (_, bytes, status) => {
    const socket = net.connect(Number(new URL(service.url).port), '127.0.0.1');
    let answer = '';
    socket.on('data', (chunk: Buffer) => (answer += chunk.toString()));
    socket.write(bytes);
    await once(socket, 'close');
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    expect(head).toContain(`HTTP/1.1 ${status}`);
    const { error } = JSON.parse(body) as { error: { correlationId: string } };
    expect(head).toContain(`X-Request-Id: ${error.correlationId}`);
  });
});
