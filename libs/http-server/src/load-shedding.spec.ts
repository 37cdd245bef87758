import { EventEmitter } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { register } from 'prom-client';
import { lateAdmissions } from './json-body.guard';
import { shedLoad } from './load-shedding';

const MOST = 384;
const LARGE = 4 * 1024 * 1024;

describe('shedLoad', () => {
  let server: http.Server;
  let port: number;
  let held: ServerResponse[];
  /** How many requests have begun; not every answer is put into `held`. */
  let begun: number;
  let isDraining: boolean;
  const agent = new http.Agent({ keepAlive: true });

  beforeEach(async () => {
    held = [];
    begun = 0;
    isDraining = false;
    server = http.createServer((req, res) => {
      begun += 1;
      if (req.url === '/health/live' || req.url?.startsWith('/metrics')) res.end('fine');
      else if (req.url === '/large') res.end(Buffer.alloc(LARGE));
      else if (req.url === '/file') Readable.from(Array<Buffer>(64).fill(Buffer.alloc(65_536))).pipe(res);
      else if (req.url === '/unread') {
        Object.assign(req.socket, { write: () => false });
        res.end('not taken');
      } else if (req.url === '/body') {
        req
          .resume()
          .on('end', () => (lateAdmissions.get(req)?.() === false ? res.writeHead(503).end() : held.push(res)));
      } else held.push(res);
    });
    shedLoad(server, () => isDraining);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
  });

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    jest.restoreAllMocks();
  });
  afterAll(() => agent.destroy());

  const send = (path = '/v1/orders', options: http.RequestOptions = {}) => {
    const request = http.request({ port, path, agent, ...options });
    request.on('error', () => undefined);
    return request;
  };
  const ask = async (path?: string, options?: http.RequestOptions) => {
    const request = send(path, options).end();
    const res = await new Promise<IncomingMessage>((resolve) => request.once('response', resolve));
    const text = Buffer.concat(await res.toArray()).toString();
    return { status: res.statusCode, headers: res.headers, text };
  };
  /** Reads nothing of its answer, which is more than the kernel takes for it. */
  const askDeaf = (path = '/large') => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined).pause();
    socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
    return socket;
  };
  const until = async (condition: () => boolean) => {
    for (let round = 0; round < 1_000 && !condition(); round += 1) await delay(5);
    expect(condition()).toBe(true);
  };
  /** @returns how many bytes of the answer there are */
  const read = async (socket: Socket) => {
    let bytes = 0;
    socket.on('data', (chunk) => (bytes += chunk.length)).resume();
    await until(() => socket.closed || bytes > LARGE);
    return bytes;
  };
  const fill = async () => {
    const requests = Array.from({ length: MOST }, (_, index) => send(`/v1/orders?${index}`).end());
    await until(() => held.length === MOST);
    return requests;
  };

  it('refuses the 385th request at once, in the shape of all errors', async () => {
    await fill();
    const { status, headers, text } = await ask('/v1/orders', { headers: { 'X-Request-Id': 'mine' } });
    expect(status).toBe(503);
    expect(headers).toMatchObject({
      'retry-after': '1',
      'x-request-id': 'mine',
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      vary: 'Accept',
      connection: 'keep-alive',
    });
    expect(JSON.parse(text)).toEqual({
      error: { code: 'SERVICE_UNAVAILABLE', message: expect.any(String), correlationId: 'mine' },
    });
    expect(held).toHaveLength(MOST);
  });

  it.each(['application/problem+json', 'application/json;q=0.5, application/problem+json'])(
    'answers with problem details whoever asks for them: %s',
    async (accept) => {
      await fill();
      const { headers, text } = await ask('/v1/orders?limit=1', { headers: { Accept: accept } });
      expect(headers['content-type']).toBe('application/problem+json; charset=utf-8');
      expect(JSON.parse(text)).toMatchObject({ status: 503, code: 'SERVICE_UNAVAILABLE', instance: '/v1/orders' });
    },
  );

  it('answers in the ordinary shape whoever prefers it', async () => {
    await fill();
    const accept = 'application/json, application/problem+json;q=0.5';
    const { headers } = await ask('/v1/orders', { headers: { Accept: accept } });
    expect(headers['content-type']).toBe('application/json; charset=utf-8');
  });

  it.each(['/health/live', '/metrics'])('refuses %s never', async (path) => {
    await fill();
    expect(await ask(path)).toMatchObject({ status: 200, text: 'fine' });
  });

  it('closes the connection while it drains, and before a body that is too long', async () => {
    await fill();
    const long = await ask('/v1/orders', { method: 'POST', headers: { 'Content-Length': 0, Expect: '' } });
    expect(long.headers.connection).toBe('keep-alive');
    const request = send('/v1/orders', { method: 'POST', headers: { 'Content-Length': 1_000_000 } });
    request.flushHeaders();
    const refusal = await new Promise<IncomingMessage>((resolve) => request.once('response', resolve));
    expect(refusal.headers.connection).toBe('close');
    const endless = await ask('/v1/orders', { method: 'POST', headers: { 'Transfer-Encoding': 'chunked' } });
    expect(endless.headers.connection).toBe('close');
    isDraining = true;
    expect((await ask()).headers.connection).toBe('close');
  });

  it('counts each refusal once, and says once in a second how many there were', async () => {
    const count = async () => {
      const { values } = await register.getSingleMetric('http_requests_total')!.get();
      const shed = values.find(({ labels }) => labels['route'] === 'shed' && labels['method'] === 'DELETE');
      return shed?.value ?? 0;
    };
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    await fill();
    await delay(1_100); // what was refused before is told of
    warn.mockClear();
    for (const refused of [1, 2]) {
      await Promise.all(Array.from({ length: refused }, () => ask('/v1/orders', { method: 'DELETE' })));
      await until(() => warn.mock.calls.length >= refused);
    }
    const said = warn.mock.calls.map(([facts]) => facts as unknown);
    expect(said).toEqual([1, 2].map((refused) => ({ refused, code: 'SERVICE_UNAVAILABLE' })));
    expect(await count()).toBe(3);
  });

  it('has room again for each that was answered, or whose client is gone', async () => {
    const requests = await fill();
    held.find(({ req }) => req.url === '/v1/orders?0')?.end('done'); // they need not come in the order of sending
    for (const request of requests.slice(1, 10)) request.destroy();
    await until(() => held.filter((res) => res.closed).length === 10);
    for (let more = 1; more <= 10; more += 1) send().end();
    await until(() => held.length === MOST + 10);
    expect((await ask()).status).toBe(503);
  });

  const aRequest = (socket: object = {}, { complete = true, bytes = 0 } = {}) => {
    const headers = complete ? {} : { 'content-length': String(bytes) };
    const req = Object.assign(new EventEmitter(), { url: '/v1/orders', headers, complete, socket });
    const state = { destroyed: false, closed: false, writableLength: complete ? bytes : 0 };
    return { req, res: Object.assign(new EventEmitter(), { req, ...state, destroy: jest.fn() }) };
  };

  it('keeps no place for a body that came when its client was gone', async () => {
    const late = Array.from({ length: 10 }, () => aRequest({}, { complete: false, bytes: 10 }));
    for (const { req, res } of late) server.emit('request', req, res);
    await until(() => held.length === late.length);
    for (const { res } of late) {
      res.destroyed = true;
      res.emit('close');
    }
    for (const { req } of late) lateAdmissions.get(req as never)?.();
    held = [];
    await fill();
    expect((await ask()).status).toBe(503);
  });

  describe('holds nothing against anybody of', () => {
    const BODY = { complete: false, bytes: 256 * 1024 };

    it.each<[string, typeof BODY, (of: ReturnType<typeof aRequest>) => void]>([
      ['a body that came', BODY, ({ req }) => req.emit('end')],
      ['a body whose client is gone', BODY, ({ res }) => res.emit('close')],
      [
        'an answer that was read',
        { complete: true, bytes: 256 * 1024 },
        ({ res }) => ['prefinish', 'close'].forEach((event) => res.emit(event)),
      ],
    ])('%s', async (_, kind, end) => {
      const clock = jest.spyOn(performance, 'now').mockReturnValue(0);
      const begin = async (count: number) => {
        const all = Array.from({ length: count }, () => aRequest({}, kind));
        held = [];
        for (const { req, res } of all) server.emit('request', req, res);
        await until(() => held.length === count);
        return all;
      };
      const all = await begin(300); // 75 MiB: more than may be held
      all.forEach(end);
      clock.mockReturnValue(10_000);
      const [late] = await begin(1);
      late?.res.emit('prefinish');
      expect(all.filter(({ res }) => res.destroy.mock.calls.length > 0)).toHaveLength(0);
    });
  });

  it('begins few at a time while clients connect, who wait for one such turn each', async () => {
    const turn = () => new Promise(setImmediate);
    const client = connect(port, '127.0.0.1');
    await new Promise<void>((resolve) => server.once('connection', () => resolve()));
    jest.spyOn(performance, 'now').mockReturnValue(0); // nor does a turn begin because Node has looked for long
    for (let n = 0; n < 100; n += 1) {
      const { req, res } = aRequest();
      server.emit('request', req, res);
    }
    await turn();
    expect(held).toHaveLength(16);
    await turn();
    expect(held).toHaveLength(16 + 64);
    await turn();
    expect(held).toHaveLength(100);
    client.destroy();
  });

  it('refuses in turns, beside which Node sees to other sockets, and not who is gone', async () => {
    await fill();
    const refused: object[] = [];
    const surplus = Array.from({ length: 1_000 }, () => {
      const { req, res } = aRequest();
      return Object.assign(res, { writeHead: () => res, end: () => refused.push(req) });
    });
    for (const res of surplus) server.emit('request', res.req, res);
    surplus[0]!.destroyed = true;
    expect(refused).toHaveLength(0);
    await new Promise(setImmediate);
    expect(refused).toEqual(surplus.slice(1, 512).map(({ req }) => req));
    await new Promise(setImmediate);
    expect(refused).toHaveLength(999);
  });

  describe('does not begin what was given up', () => {
    it('while it waited for its turn', async () => {
      const all = Array.from({ length: 300 }, () => aRequest());
      for (const { req, res } of all) server.emit('request', req, res);
      await new Promise(setImmediate);
      const started = held.length;
      expect(started).toBeLessThan(300);
      for (const { res } of all.slice(started)) res.destroyed = true;
      await delay(20);
      expect(held).toHaveLength(started);
      for (const { res } of all) res.emit('close');
      held = [];
      await fill(); // and they have no place
      expect((await ask()).status).toBe(503);
    });

    it('while it stood behind another of its connection', async () => {
      const socket = { destroyed: false };
      const [first, second] = [aRequest(socket), aRequest(socket)];
      for (const { req, res } of [first, second]) server.emit('request', req, res);
      await delay(20);
      socket.destroyed = true;
      first.res.emit('close');
      await delay(20);
      expect(held).toHaveLength(1);
    });
  });

  it('has no place for more of those whose bodies come late, nor beside them, until some have their answers', async () => {
    const slow = Array.from({ length: MOST + 10 }, () => {
      const request = send('/body', { method: 'POST', headers: { 'Content-Length': 10 } });
      request.flushHeaders();
      return request;
    });
    const statuses: (number | undefined)[] = [];
    for (const request of slow) request.on('response', (res) => statuses.push(res.resume().statusCode));
    await until(() => begun === slow.length);
    for (const request of slow) request.end('0123456789');
    await until(() => held.length === MOST && statuses.length === 10);
    expect(new Set(statuses)).toEqual(new Set([503]));
    expect((await ask()).status).toBe(503);
    for (const res of held) res.end();
    await until(() => statuses.length === MOST + 10);
    held = [];
    await fill();
    expect((await ask()).status).toBe(503);
  });

  it('answers what is sent ahead in turn, each with a place of its own only then, and cuts off who sends too much', async () => {
    const get = (n: number) => `GET /v1/orders?${n} HTTP/1.1\r\nHost: a\r\n\r\n`;
    const socket = connect(port, '127.0.0.1');
    const text: string[] = [];
    socket.setNoDelay(); // else the next request waits in the client until the one before is answered
    socket.on('error', () => undefined).on('data', (chunk) => text.push(chunk.toString()));
    socket.write([1, 2, 3].map(get).join(''));
    for (let n = 1; n <= 3; n += 1) {
      await until(() => held.length === n);
      await delay(20);
      expect(held).toHaveLength(n);
      held[n - 1]?.end(`answer ${n};`);
    }
    await until(() => text.join('').includes('answer 3;'));
    expect(text.join('').match(/answer \d/g)).toEqual(['answer 1', 'answer 2', 'answer 3']);
    socket.write(get(4));
    await until(() => held.length === 4);
    // One ahead, all the time.
    for (let n = 5; n <= 40; n += 1) {
      socket.write(get(n));
      await delay(5);
      held[n - 2]?.end();
      await until(() => held.length === n);
    }
    held[39]?.end();
    await until(() => held[39]?.closed === true);
    held = [];
    const greedy = connect(port, '127.0.0.1');
    greedy.on('error', () => undefined).resume();
    greedy.write(Array.from({ length: 400 }, (_, n) => get(n)).join(''));
    await until(() => greedy.closed);
    held = [];
    await fill();
    expect((await ask()).status).toBe(503);
    socket.destroy();
  });

  it('lets nobody be kept out by bodies that do not come and answers that are not read', async () => {
    const silent = Array.from({ length: MOST }, () => {
      const request = send('/v1/orders', { method: 'POST', headers: { 'Content-Length': 10 } });
      request.flushHeaders();
      return request;
    });
    await until(() => held.length === MOST);
    const deaf = Array.from({ length: MOST }, () => send('/unread').end());
    await until(() => begun === 2 * MOST);
    send().end();
    await until(() => held.length === MOST + 1);
    for (const one of [...silent, ...deaf]) one.destroy();
  });

  it('lets nobody be kept out by files that are not read, and cuts off the oldest when they become too many', async () => {
    const deaf = Array.from({ length: MOST }, () => askDeaf('/file'));
    await until(() => begun === MOST);
    await fill();
    expect((await ask()).status).toBe(503);
    for (const res of held.splice(0)) res.end();
    await delay(2_100); // nobody is cut off before
    const others = Array.from({ length: 200 }, () => askDeaf('/file'));
    await until(() => begun === 2 * MOST + 200);
    expect(await read(deaf[0]!)).toBeLessThan(LARGE);
    expect(await read(others.at(-1)!)).toBeGreaterThan(LARGE);
    for (const one of [...deaf, ...others]) one.destroy();
  });

  it('lets no probe be sent ahead without an end', async () => {
    const greedy = connect(port, '127.0.0.1');
    greedy.on('error', () => undefined).pause();
    let asked = 0;
    let answered = 0;
    server.on('request', (_req, res: ServerResponse) => {
      asked += 1;
      res.once('finish', () => (answered += 1));
    });
    greedy.write('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(1_000));
    await until(() => asked > 16);
    await delay(100);
    greedy.resume();
    await until(() => greedy.closed);
    expect(answered).toBeLessThanOrEqual(17);
  });

  it('takes for a probe only what is one', async () => {
    await fill();
    expect((await ask('/health/other')).status).toBe(503);
    expect((await ask('/metrics?name=up')).status).toBe(200);
  });

  it('cuts off those that have not read for the longest, when what they leave becomes too much', async () => {
    let asked = 0;
    server.on('request', () => (asked += 1));
    const oldest = askDeaf();
    await delay(100);
    const others = Array.from({ length: 40 }, () => askDeaf());
    await until(() => asked === 41);
    await delay(2_100); // nobody is cut off before
    expect(await ask('/large')).toMatchObject({ status: 200 });
    const newest = askDeaf();
    await delay(100);
    expect(await read(oldest)).toBeLessThan(LARGE);
    expect(await read(newest)).toBeGreaterThan(LARGE);
    for (const one of [...others, newest]) one.destroy();
  });

  it('cuts off the oldest bodies that do not come, when they become too many, and none that came', async () => {
    const post = (length: number) => {
      const request = send('/body', { method: 'POST', headers: { 'Content-Length': length } });
      request.flushHeaders();
      return request;
    };
    const closed: number[] = [];
    const clock = jest.spyOn(performance, 'now').mockReturnValue(0);
    // 256 KiB each: a quarter of a thousand is what may be held.
    const slow = Array.from({ length: 300 }, (_, index) => post(256 * 1024).once('close', () => closed.push(index)));
    await until(() => begun === slow.length);
    await delay(100);
    expect(closed).toHaveLength(0);
    clock.mockReturnValue(2_100); // nobody is cut off before
    slow.push(post(256 * 1024));
    await until(() => closed.length === 45);
    const quick = Array.from({ length: 300 }, () => post(10).end('0123456789'));
    await until(() => held.length === quick.length);
    expect(closed).toHaveLength(45);
    for (const request of slow) request.destroy();
  });
});
