import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { SERVICE_LOGIN } from '../../apps/sandbox/src/settings';
import { type ServiceProcess, spawnService } from '../support/child';
import { type Answer, type Api, anOrder, api, apiOnce, fetchToken, placeOrder } from '../support/client';
import { OwnPostgres } from '../support/own-postgres';
import { pieces } from '../support/pieces';
import { firstBelow, until } from '../support/until';

describe('With PostgreSQL away', () => {
  let postgres: OwnPostgres;
  let service: ServiceProcess;
  let orders: Api;
  let once: Api;

  const serve = async () => {
    // Long enough for the answer to `cust_slow`, which comes while the database is away.
    service = await spawnService({ DATABASE_URL: postgres.url, PAYMENT_API_ATTEMPT_TIMEOUT_MS: '8000' });
    const token = await fetchToken('order-orchestrator');
    orders = api(service.url, token);
    once = apiOnce(service.url, token);
  };

  beforeAll(async () => {
    postgres = await OwnPostgres.start();
    await serve();
    await placeOrder(orders);
  });
  afterAll(async () => {
    await service.end();
    await postgres.stop();
  });

  const routes: [string, () => Promise<Answer>][] = [
    ['POST /v1/orders', () => once('/v1/orders', { body: anOrder() })],
    ['GET /v1/orders', () => once('/v1/orders')],
    ['GET /v1/orders/{orderId}', () => once('/v1/orders/ord_01jfw9v6k3f0qv8w2m4x5y6z7a')],
  ];

  /**
   * Stops the server and every session of it, as a network that swallows packets would have it.
   * @returns lets them go on
   */
  function freeze(): () => void {
    const processes = postgres.suspend(); // first: a session that it began meanwhile would answer
    for (const pid of processes) process.kill(pid, 'SIGSTOP');
    return () => processes.forEach((pid) => process.kill(pid, 'SIGCONT'));
  }

  async function expectRefusedInTime(route: string, call: () => Promise<Answer>, times: number): Promise<void> {
    const refuse = async () => {
      const start = performance.now();
      const answers = await Promise.all(Array.from({ length: times }, call));
      const tookMs = performance.now() - start;
      for (const { status, headers, body, text } of answers) {
        expect({ route, status, code: body.error.code }).toEqual({ route, status: 503, code: 'SERVICE_UNAVAILABLE' });
        expect(headers.get('retry-after')).toBe('1');
        expect(text).not.toMatch(/postgres|ECONN|127\.0\.0\.1|connect|SELECT|INSERT/i);
      }
      return tookMs;
    };
    expect(await firstBelow(2_000, refuse)).toBeLessThan(2_000);
  }

  async function expectUnavailable(): Promise<void> {
    for (const [route, call] of routes) await expectRefusedInTime(route, call, 20);
    const ready = await once('/health/ready');
    expect(ready.status).toBe(503);
    expect((await orders('/health/live')).status).toBe(200);
    expect((await orders('/metrics')).status).toBe(200);
  }

  async function expectBack(): Promise<void> {
    await until('an order', async () => (await once('/v1/orders', { body: anOrder() })).status === 201, 5_000);
    await until('readiness', async () => (await once('/health/ready')).status === 200, 5_000);
    expect(service.process.exitCode).toBeNull();
  }

  it('answers 503 while it is stopped, and orders again as soon as it is back', async () => {
    await postgres.stop();
    await expectUnavailable();
    await postgres.comeBack();
    await expectBack();
    const line = service.lines.find(({ context, code }) => context === 'ErrorFilter' && code === 'SERVICE_UNAVAILABLE');
    expect(line).toMatchObject({
      context: 'ErrorFilter',
      err: { type: expect.any(String), stack: expect.any(String) },
    });
    expect(JSON.stringify(service.lines)).not.toMatch(/cust_123|ABC-001/); // no SQL parameter
  });

  it('answers 503 while it lets nobody in, for whatever reason', async () => {
    const superuser = new Client(postgres.superuserUrl('postgres'));
    await superuser.connect();
    await superuser.query(`REVOKE CONNECT ON DATABASE orders FROM ${SERVICE_LOGIN.group}`);
    await superuser.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'orders'");
    await expectUnavailable();
    const compliance = apiOnce(service.url, await fetchToken('compliance')); // on a connection of its own
    expect((await compliance('/v1/customers/cust_123/erasure', { method: 'POST' })).status).toBe(503);
    await superuser.query(`GRANT CONNECT ON DATABASE orders TO ${SERVICE_LOGIN.group}`);
    await superuser.end();
    await expectBack();
  });

  it('answers 503 while it hangs without a word, and orders again as soon as it goes on', async () => {
    const thaw = freeze();
    await expectUnavailable().finally(thaw);
    await expectBack();
  });

  it('answers late while it is slow, and 503 when it is too slow, and then too makes an order once', async () => {
    const superuser = new Client(postgres.superuserUrl());
    await superuser.connect();
    const sleep = (seconds: number) =>
      superuser.query(
        `CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_sleep(${seconds}); RETURN NEW; END'`,
      );
    await sleep(0.5);
    await superuser.query('CREATE TRIGGER dawdle BEFORE INSERT ON orders FOR STATEMENT EXECUTE FUNCTION dawdle()');
    const order = anOrder({ customerId: 'cust_patient' });
    await placeOrder(orders);
    await sleep(2);
    await expectRefusedInTime('POST /v1/orders', () => once('/v1/orders', { body: order }), 1);
    expect((await orders('/health/ready')).status).toBe(200);
    await superuser.query('DROP TRIGGER dawdle ON orders');
    expect((await orders('/v1/orders', { body: order })).headers.get('idempotent-replayed')).toBeNull();
    expect((await orders('/v1/orders?customerId=cust_patient')).body.data).toHaveLength(1);
    await superuser.end();
  });

  it('lets a process start, which says so until it is there, and then works', async () => {
    await postgres.stop();
    const late = await spawnService({ DATABASE_URL: postgres.url }, { isNotReady: true });
    const token = await fetchToken('order-orchestrator');
    const [call, callOnce] = [api(late.url, token), apiOnce(late.url, token)];
    const { status, body } = await callOnce('/health/ready');
    expect([status, body.error.database.message]).toEqual([503, expect.stringContaining('ECONNREFUSED')]);
    expect((await callOnce('/v1/orders', { body: anOrder() })).body.error.code).toBe('SERVICE_UNAVAILABLE');
    await postgres.comeBack();
    await expectBack();
    await service.end(); // so that nobody else pays
    await until('readiness', async () => (await call('/health/ready')).status === 200);
    const order = await placeOrder(call);
    await until('the payment', async () => (await call(`/v1/orders/${order.orderId}`)).body.status === 'CONFIRMED');
    expect(await late.end()).toBe(0);
    await serve();
  });

  it('carries on the payments whose answers came while it was stopped', async () => {
    const { orderId } = await placeOrder(orders, anOrder({ customerId: 'cust_slow' }));
    const held = async () => (await api(pieces().paymentApi)(`/v1/payments?orderId=${orderId}`)).body.data;
    await until('the call', async () => (await held()).length === 1);
    await postgres.stop();
    await delay(7_000); // the answer comes after 5 s
    await postgres.comeBack();
    await expectBack();
    const confirmed = async () => (await orders(`/v1/orders/${orderId}`)).body.status === 'CONFIRMED';
    // Each run that fails meanwhile has the next wait longer, up to a minute.
    await until('the confirmation', confirmed, 90_000);
    expect(await held()).toHaveLength(1);
  });

  it('accepts an order once although its answer was 503', async () => {
    const body = anOrder({ customerId: 'cust_unsure' });
    const thaw = freeze();
    const unsure = await once('/v1/orders', { body }).finally(thaw);
    expect(unsure.status).toBe(503);
    const sure = await until('the order', async () => {
      const answer = await orders('/v1/orders', { body });
      return answer.status === 201 && answer;
    });
    const { body: page } = await orders('/v1/orders?customerId=cust_unsure');
    expect(page.data.map(({ orderId }: { orderId: string }) => orderId)).toEqual([sure.body.orderId]);
  });
});
