import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { startProgram } from '../../apps/sandbox/src/program';
import { spawnService } from '../support/child';
import { anOrder, api, apiOnce, fetchToken, orderHead, placeOrder } from '../support/client';
import { createDatabase, PATIENT, type TestDatabase } from '../support/database';
import { environment } from '../support/environment';
import { pieces } from '../support/pieces';
import { runToEnd } from '../support/run-program';
import { until } from '../support/until';

let database: TestDatabase;

/** Takes half a minute, in which the other tests run. */
let endOfTheEndless: ReturnType<typeof endWithAnEndlessRequest>;

beforeAll(async () => {
  database = await createDatabase();
  endOfTheEndless = endWithAnEndlessRequest();
  endOfTheEndless.catch(() => undefined);
});
afterAll(() => database.drop());

async function endWithAnEndlessRequest() {
  const service = await spawnService({ DATABASE_URL: database.url, ROLES: 'api' });
  const token = await fetchToken('order-orchestrator');
  // A keep-alive connection whose request began before the signal, one whose request ends well after it, and one whose
  // request never ends.
  const idle = net.connect(Number(new URL(service.url).port), '127.0.0.1');
  idle.write(`GET /v1/orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`);
  await once(idle, 'data');
  const beginOrder = () => {
    const socket = net.connect(Number(new URL(service.url).port), '127.0.0.1');
    socket.on('error', () => undefined).resume();
    socket.write(`${orderHead(token, 'Content-Length: 100')}{`);
    return socket;
  };
  beginOrder();
  const late = beginOrder();
  const lateClosed = once(late, 'close');
  await delay(200);
  const start = performance.now();
  const lateMs = delay(1_500).then(async () => {
    late.write(' '.repeat(99));
    await lateClosed;
    return performance.now() - start;
  });
  return { code: await service.end(), ms: performance.now() - start, lateMs: await lateMs };
}

describe('SIGTERM', () => {
  it('makes the process not ready at once, keeps it serving, finishes what is in flight and ends with code 0', async () => {
    const service = await spawnService({ DATABASE_URL: database.url + PATIENT, SHUTDOWN_DELAY_MS: '6000' });
    const token = await fetchToken('order-orchestrator');
    const orders = api(service.url, token);

    service.process.kill('SIGTERM');
    await until('the drain', async () => (await apiOnce(service.url)('/health/ready')).status === 503, 500);
    expect((await orders('/health/live')).status).toBe(200);
    const { status, headers } = await orders('/v1/orders', { body: anOrder() });
    expect([status, headers.get('connection')]).toEqual([201, 'close']);

    // A request that is being read when the intake stops is still answered.
    const body = JSON.stringify(anOrder({ customerId: 'cust_in_flight' }));
    const socket = net.connect(Number(new URL(service.url).port), '127.0.0.1');
    socket.write(orderHead(token, `Content-Length: ${Buffer.byteLength(body)}`) + body.slice(0, 10));
    const isRefused = () =>
      fetch(service.url).then(
        () => false,
        () => true,
      );
    await until('the end of the intake', isRefused);
    let answer = '';
    socket.on('data', (chunk: Buffer) => (answer += chunk.toString()));
    socket.write(body.slice(10));
    await once(socket, 'close');
    expect(answer).toMatch(/^HTTP\/1\.1 201 /);
    expect(await service.end()).toBe(0);
    expect(await database.query("SELECT FROM orders WHERE customer_id = 'cust_in_flight'")).toHaveLength(1);
  });

  it.each([
    ['nothing', ''],
    ['half of its headers', 'GET /v1/orders HTTP/1.1\r\nHost: a\r\n'],
  ])('does not wait for a connection that has sent %s', async (_, sent) => {
    const service = await spawnService({ DATABASE_URL: database.url, ROLES: 'api' });
    const socket = net.connect(Number(new URL(service.url).port), '127.0.0.1').on('error', () => undefined);
    await once(socket, 'connect');
    socket.write(sent);
    await delay(100);
    const start = performance.now();
    expect(await service.end()).toBe(0);
    expect(performance.now() - start).toBeLessThan(5_000);
  });

  it('ends a process that still starts with code 0', async () => {
    const env = environment({ DATABASE_URL: 'postgres://a@127.0.0.1:1/a', LOG_LEVEL: 'info' });
    const child = startProgram('main', env, [], 'pipe');
    const end = once(child, 'close');
    await Promise.race([once(child.stdout!, 'data'), end]); // it says that it cannot reach the database
    child.kill();
    expect(await end).toEqual([0, null]);
  });

  it('ends a worker with code 0 too', async () => {
    const service = await spawnService({ DATABASE_URL: database.url, ROLES: 'worker' });
    expect(await service.end()).toBe(0);
    expect(service.lines.filter(({ level }) => level === 'error')).toEqual([]);
  });

  it('comes also when the process that started this one is gone', async () => {
    const service = await spawnService({ DATABASE_URL: database.url, ROLES: 'api' });
    const end = once(service.process, 'exit');
    service.process.disconnect();
    expect(await end).toEqual([0, null]);
  });

  it('finishes the payment that is under way', async () => {
    const service = await spawnService({ DATABASE_URL: database.url, PAYMENT_API_ATTEMPT_TIMEOUT_MS: '8000' });
    const orders = api(service.url, await fetchToken('order-orchestrator'));
    const { orderId } = await placeOrder(orders, anOrder({ customerId: 'cust_slow' }));
    const payments = api(pieces().paymentApi);
    await until('the call', async () => (await payments(`/v1/payments?orderId=${orderId}`)).body.data.length === 1);
    expect(await service.end()).toBe(0);
    const rows = await database.query("SELECT status FROM orders WHERE customer_id = 'cust_slow'");
    expect(rows).toEqual([{ status: 'CONFIRMED' }]);
  });
});

describe('ROLES', () => {
  it('decides what a process does; health and metrics are in both', async () => {
    const worker = await spawnService({ DATABASE_URL: database.url, ROLES: 'worker' });
    const toWorker = api(worker.url, await fetchToken('order-orchestrator'));
    expect((await toWorker('/v1/orders')).status).toBe(404);
    for (const path of ['/health/live', '/health/ready', '/metrics']) {
      expect((await toWorker(path)).status).toBe(200);
    }
    expect((await toWorker('/metrics')).text).toMatch(/^outbox_backlog \d+$/m);
    await worker.end();
  });

  it('begins with no failure on any route, so that Prometheus sees the first one as an increase', async () => {
    const service = await spawnService({ DATABASE_URL: database.url, ROLES: 'api' });
    const { text } = await api(service.url)('/metrics');
    const failures = [
      ...text.matchAll(/^http_requests_total\{method="(.*?)",route="(.*?)",status_code="(5..)"\} 0$/gm),
    ];
    const on = (code: string) =>
      failures.filter(([, , , status]) => status === code).map(([, ...at]) => at.slice(0, 2));
    expect(on('500')).toEqual(
      expect.arrayContaining([
        ['POST', '/v1/orders'],
        ['GET', '/v1/orders'],
        ['GET', '/v1/orders/:orderId'],
        ['POST', '/v1/orders/:orderId/cancel'],
        ['POST', '/v1/customers/:customerId/erasure'],
        ['GET', '/v1/audit-events'],
      ]),
    );
    expect(on('503')).toEqual(expect.arrayContaining([...on('500'), ['POST', 'shed']]));
    expect(text).toMatch(/^rate_limited_total\{limit="address"\} 0$/m);
    await service.end();
  });
});

describe('An event that the database cannot take now', () => {
  it('is delivered again in the same process, and is no error', async () => {
    const service = await spawnService({ DATABASE_URL: database.url });
    const orders = api(service.url, await fetchToken('order-orchestrator'));
    await database.query('BEGIN');
    await database.query('LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE');
    const { orderId } = await placeOrder(orders);
    await until('the repetition', () => service.lines.find(({ context }) => context === 'Events'));
    await database.query('COMMIT');
    const isConfirmed = async () => (await orders(`/v1/orders/${orderId}`)).body.status === 'CONFIRMED';
    await until('the confirmation', isConfirmed);
    expect(await service.end()).toBe(0);
    expect(service.lines.filter(({ level }) => level === 'error')).toEqual([]);
  });
});

describe('A worker whose direct connection fails', () => {
  it('says so, and no backlog, which it does not know', async () => {
    const elsewhere = new URL(database.url);
    elsewhere.port = '1';
    const worker = await spawnService({
      DATABASE_URL: database.url,
      DATABASE_DIRECT_URL: elsewhere.href,
      ROLES: 'worker',
    });
    const call = api(worker.url);
    await until('the failures', () => {
      const contexts = new Set(worker.lines.filter(({ level }) => level === 'warn').map(({ context }) => context));
      return contexts.has('OutboxRelay') && contexts.has('JobRunner');
    });
    expect((await call('/health/ready')).status).toBe(200);
    const { text } = await call('/metrics');
    expect(text).not.toMatch(/^outbox_(backlog|oldest_age_seconds|parked) /m);
    const down = ['jobs', 'outbox-relay'].map((name) => `dependency_up{dependency="${name}"} 0`);
    expect(text.split('\n')).toEqual(expect.arrayContaining([...down, 'dependency_up{dependency="database"} 1']));
    expect(await worker.end()).toBe(0);
  });
});

describe('Two processes on one database', () => {
  it('give one order, one event and equal answers to simultaneous requests with one key', async () => {
    const start = () => spawnService({ DATABASE_URL: database.url + PATIENT, ROLES: 'api' });
    const [first, second] = await Promise.all([start(), start()]);
    const token = await fetchToken('order-orchestrator');
    const one = apiOnce(first.url, token);
    const two = apiOnce(second.url, token);
    for (let round = 0; round < 5; round += 1) {
      const body = anOrder({ customerId: `cust_two_processes_${round}` });
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, i) => (i % 2 === 0 ? one : two)('/v1/orders', { body })),
      );
      expect(new Set(answers.map((answer) => `${answer.status} ${answer.text}`)).size).toBe(1);
      expect(answers[0]?.status).toBe(201);
      expect(await database.query('SELECT FROM orders WHERE customer_id = $1', [body.customerId])).toHaveLength(1);
      const event = 'SELECT FROM outbox WHERE aggregateid = $1';
      expect(await database.query(event, [answers[0]?.body.orderId])).toHaveLength(1);
    }
    const page = await one('/v1/orders?limit=2');
    const next = await two(page.body.links.next);
    expect(next.status).toBe(200); // a cursor of one process is good at the other
    await Promise.all([first.end(), second.end()]);
  });
});

describe('Logs', () => {
  it('are one JSON object a line with the context of the request, and without its secrets', async () => {
    const service = await spawnService({ DATABASE_URL: database.url });
    const token = await fetchToken('order-orchestrator');
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const { body } = await api(service.url, token)('/v1/orders?secret=canary-query', {
      body: anOrder({ customerId: 'canary-customer', metadata: { card: '4111111111111111' } }),
      headers: { 'x-request-id': 'request-to-log', traceparent },
    });
    await api(service.url, token)('/v1/orders/ord_x', { headers: { 'x-request-id': 'refused-to-log' } });
    const lineOf = (requestId: string) =>
      until('the line', () => service.lines.find((line) => line['requestId'] === requestId) ?? false);
    expect(await lineOf('request-to-log')).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      msg: 'Request completed',
      context: 'http',
      requestId: 'request-to-log',
      clientId: 'order-orchestrator',
      scope: 'orders:read orders:write',
      orderId: body.orderId,
      traceId: '0af7651916cd43dd8448eb211c80319c',
      spanId: expect.stringMatching(/^[0-9a-f]{16}$/),
      method: 'POST',
      route: '/v1/orders',
      statusCode: 201,
      durationMs: expect.any(Number),
    });
    const refused = await lineOf('refused-to-log');
    expect(refused).not.toHaveProperty('orderId');
    expect(refused).toMatchObject({
      level: 'warn',
      msg: 'Request refused',
      code: 'ORDER_NOT_FOUND',
      route: '/v1/orders/:orderId',
      statusCode: 404,
    });
    for (const [method, action] of Object.entries({ GET: '', POST: '/cancel' })) {
      const headers = { 'x-request-id': `${method}-to-log` };
      await api(service.url, token)(`/v1/orders/${body.orderId}${action}`, { method, headers });
      expect(await lineOf(`${method}-to-log`)).toMatchObject({ statusCode: 200, orderId: body.orderId });
    }
    const elsewhere = 'ord_01jfw9v6k3f0qv8w2m4x5y6z7a';
    for (const [method, action] of Object.entries({ GET: '', POST: '/cancel' })) {
      const headers = { 'x-request-id': `${method}-of-another` };
      await api(service.url, token)(`/v1/orders/${elsewhere}${action}`, { method, headers });
      expect(await lineOf(`${method}-of-another`)).toMatchObject({ statusCode: 404, orderId: elsewhere });
    }
    await api(service.url, `${token}x`)('/v1/orders', { headers: { 'x-request-id': 'unknown-to-log' } });
    expect(await lineOf('unknown-to-log')).toMatchObject({ code: 'INVALID_TOKEN', reason: 'signature' });
    await service.end();
    expect(service.lines).toContainEqual(
      expect.objectContaining({ level: 'warn', msg: expect.stringContaining('a publicly known key is in use') }),
    );
    const all = JSON.stringify(service.lines);
    for (const secret of [token, 'canary-customer', 'canary-query', '4111111111111111', database.url]) {
      expect(all).not.toContain(secret);
    }
    expect(service.lines.map(({ msg }) => msg)).toContain('Closed');
  });
});

describe('In production', () => {
  it('it is said at the start what is reached in the clear', async () => {
    const service = await spawnService({
      NODE_ENV: 'production',
      ROLES: 'api',
      DATABASE_URL: database.url,
      AUDIT_KEY: 'a'.repeat(32),
      PSEUDONYM_KEY: 'b'.repeat(32),
      PAYMENT_API_URL: 'https://payments.example',
      PAYMENT_API_TOKEN_URL: 'http://id.example',
      PAYMENT_API_CLIENT_ID: 'a',
      PAYMENT_API_CLIENT_SECRET: 'b',
    });
    expect(await service.end()).toBe(0);
    const warnings = service.lines.filter(({ msg }) => String(msg).includes('is used without TLS'));
    expect(warnings.map(({ level, msg }) => [level, String(msg).split(' ')[0]])).toEqual([
      ['warn', 'OIDC_ISSUER'],
      ['warn', 'PAYMENT_API_TOKEN_URL'],
    ]);
  });
});

describe('A database that is away at the start', () => {
  it('is told of in JSON from the first line on', async () => {
    const program = spawn(process.execPath, ['dist/apps/order-service/src/main.js'], {
      env: environment({ DATABASE_URL: 'postgres://user:canary@127.0.0.1:9/none', LOG_LEVEL: 'info' }),
    });
    let output = '';
    program.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const isStarted = () => output.includes('The database is unavailable') && output.includes('"Listening on ');
    await until('its start', isStarted).finally(() => program.kill());
    const [code] = (await once(program, 'close')) as [number];
    expect(code).toBe(0);
    for (const line of output.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('level');
    expect(output).not.toContain('canary');
  });
});

describe('An error that nobody caught', () => {
  it.each([
    ['an exception', 'throw fault'],
    ['a rejection', 'void Promise.reject(fault)'],
  ])('ends the process with code 1 and a last line in JSON: %s', async (_, fail) => {
    const onSignal = `process.on('SIGUSR2', () => {
      const fault = Object.assign(new Error('nobody caught it'), { parameters: ['can' + 'ary'] }); ${fail} })`;
    const preload = ['--import', `data:text/javascript,${encodeURIComponent(onSignal)}`];
    const program = spawn(process.execPath, [...preload, 'dist/apps/order-service/src/main.js'], {
      env: environment({ DATABASE_URL: database.url, LOG_LEVEL: 'info' }),
    });
    let output = '';
    program.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    program.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await until('its start', () => output.includes('"Listening on '));
    program.kill('SIGUSR2');
    const [code] = (await once(program, 'close')) as [number];
    expect(code).toBe(1);
    const lines = output.trim().split('\n');
    for (const line of lines) expect(JSON.parse(line)).toHaveProperty('level');
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ level: 'fatal', err: { message: 'nobody caught it' } });
    expect(output).not.toContain('canary');
  });
});

describe('A port that is taken', () => {
  it('stops the start with code 1 and a last line in JSON that names it', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as net.AddressInfo;
    const env = { DATABASE_URL: database.url, LOG_LEVEL: 'info', HOST: '127.0.0.1', PORT: String(port) };
    const { code, out, err } = await runToEnd('main', env);
    taken.close();
    expect([code, err]).toEqual([1, '']);
    const lines = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    expect(lines.at(-1)).toMatchObject({
      level: 'fatal',
      err: { message: `listen EADDRINUSE: address already in use 127.0.0.1:${port}` },
      msg: 'The process cannot start, and ends',
    });
  });
});

describe('A wrong configuration', () => {
  it('stops the start with code 1, names every offending variable and prints no value', async () => {
    const env = { PORT: 'canary', DATABASE_URL: 'canary', KAFKA_BROKERS: 'canary', OIDC_AUDIENCE: '' };
    const { code, out, err } = await runToEnd('main', env);
    expect([code, out]).toEqual([1, '']);
    expect(err).not.toContain('canary');
    expect(err.trim().split('\n')).toEqual([
      'The configuration is wrong:',
      '  PORT must be an integer from 0 to 65535',
      '  DATABASE_URL must be a URL that begins with postgres:// or postgresql://',
      '  OIDC_AUDIENCE is required',
      '  KAFKA_BROKERS must be a comma-separated list of host:port',
    ]);
  });
});

describe('SIGTERM with a request that never ends', () => {
  it('does not wait for ever', async () => {
    let end = await endOfTheEndless;
    if (end.ms >= 33_000) end = await endWithAnEndlessRequest(); // a busy machine may spoil one
    expect(end.code).toBe(0);
    expect(end.ms).toBeGreaterThan(25_000); // it has its time
    expect(end.ms).toBeLessThan(33_000);
    expect(end.lateMs).toBeLessThan(15_000); // its connection is not kept for another request
  });
});
