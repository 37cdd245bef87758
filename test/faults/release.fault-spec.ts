import { setTimeout as delay } from 'node:timers/promises';
import { Agent } from 'undici';
import { toOrderId } from '../../apps/order-service/src/orders/order-id';
import { Pieces } from '../../apps/sandbox/src/pieces';
import { runProgram } from '../../apps/sandbox/src/program';
import { Balancer } from '../support/balancer';
import { type ServiceProcess, spawnService } from '../support/child';
import { anOrder, type Answer, type Api, apiOnce, fetchToken } from '../support/client';
import { createDatabase, PATIENT, type TestDatabase } from '../support/database';
import { environment } from '../support/environment';
import { Payments } from '../support/payments';
import { pieces } from '../support/pieces';
import { describeWithKafka, Topic } from '../support/topic';
import { until } from '../support/until';

const CLIENTS = 4;
/** Between a client's rounds: load has to be there all the time, and leave processes room to start. */
const PAUSE_MS = 100;
/** Many rounds long: each connection has to be used once in it, by a client that may get little of a busy machine. */
const DRAINING_MS = '4000';

/** The build that N is of. Without it N is this build too, and only the schema differs: see `EXPAND`. */
const OLD_DIST = process.env['REHEARSE_OLD_DIST'];

/** What a migration may do while N runs; N then finds one of which it knows nothing. */
const EXPAND = [
  'ALTER TABLE orders ADD COLUMN rehearsed text',
  'CREATE INDEX CONCURRENTLY rehearsed ON orders (rehearsed)',
  "INSERT INTO migrations (timestamp, name) VALUES (9999999999999, 'Rehearse9999999999999')",
];

interface Placed {
  readonly orderId: string;
  readonly cancelled: boolean;
}

type Role = 'api' | 'worker';

describeWithKafka('A release under load', () => {
  let database: TestDatabase;
  let payments: Payments;
  let topic: Topic;
  let balancer: Balancer;
  let token: string;
  const placed: Placed[] = [];
  const services: ServiceProcess[] = [];

  beforeAll(async () => {
    database = await createDatabase({ empty: true });
    payments = await Payments.start();
    topic = await Topic.read();
    balancer = await Balancer.start();
    token = await fetchToken('order-orchestrator');
  });

  afterAll(async () => {
    balancer.stop();
    await topic.close();
    await payments.goAway();
    await database.drop();
  });

  async function migrate(dist?: string): Promise<void> {
    const env = { DATABASE_URL: database.url, DATABASE_MIGRATION_URL: database.superuserUrl };
    await runProgram(new Pieces(), 'database/migrate', environment({ PATH: process.env['PATH'], ...env }), [], dist);
  }

  async function start(role: Role, dist?: string): Promise<ServiceProcess> {
    const service = await spawnService(
      {
        DATABASE_URL: database.url + PATIENT,
        KAFKA_BROKERS: pieces().kafkaBrokers,
        PAYMENT_API_URL: payments.url,
        ROLES: role,
        LOG_LEVEL: 'warn',
        SHUTDOWN_DELAY_MS: DRAINING_MS,
      },
      { dist },
    );
    services.push(service);
    if (role === 'api') {
      balancer.add(service.url);
      await until('its place behind the balancer', () => balancer.isReady(service.url));
    }
    return service;
  }

  async function end(service: ServiceProcess): Promise<void> {
    const code = await service.end();
    balancer.remove(service.url);
    expect(code).toBe(0);
  }

  /** One process at a time, the new one first, as `maxUnavailable: 0` has it. */
  async function roll(old: Record<Role, ServiceProcess>, dist?: string): Promise<Record<Role, ServiceProcess>> {
    const newApi = await start('api', dist);
    const [one, other] = [apiOnce(old.api.url, token), apiOnce(newApi.url, token)];
    await Promise.all([meet(one, other), meet(other, one)]);
    await end(old.api);
    const newWorker = await start('worker', dist);
    await end(old.worker);
    return { api: newApi, worker: newWorker };
  }

  /** What one version has given is good at the other: key, cursor, ETag. */
  async function meet(first: Api, second: Api): Promise<void> {
    const body = anOrder();
    const made = await expecting(201, first, '/v1/orders', { body });
    const { orderId } = made.body as Placed;
    placed.push({ orderId, cancelled: true });
    const again = await expecting(201, second, '/v1/orders', { body });
    expect([again.text, again.headers.get('idempotent-replayed')]).toEqual([made.text, 'true']);
    const page = await expecting(200, first, '/v1/orders?limit=1');
    await expecting(200, second, page.body.links.next as string);
    const read = () => expecting(200, first, `/v1/orders/${orderId}`);
    await until('the payment', async () => (await read()).body.status === 'CONFIRMED');
    const etag = (await read()).headers.get('etag') ?? '';
    await expecting(200, second, `/v1/orders/${orderId}/cancel`, { method: 'POST', headers: { 'if-match': etag } });
  }

  /** A client's round. Nothing is tried twice: what fails here fails at a client. */
  async function work(call: Api, round: number): Promise<void> {
    const body = anOrder();
    const made = await expecting(201, call, '/v1/orders', { body });
    const order: Placed = { orderId: made.body.orderId as string, cancelled: round % 5 === 0 };
    placed.push(order);
    const again = await expecting(201, call, '/v1/orders', { body });
    expect(again.text).toBe(made.text);
    const read = await expecting(200, call, `/v1/orders/${order.orderId}`);
    expect(read.body.orderId).toBe(order.orderId);
    await expecting(200, call, '/v1/orders?limit=2');
    if (order.cancelled) await expecting(200, call, `/v1/orders/${order.orderId}/cancel`, { method: 'POST' });
  }

  /** By order, without what was delivered again. */
  function events(): Map<string, string[]> {
    const seen = new Set<string>();
    const byOrder = new Map<string, string[]>();
    for (const { key, headers } of topic.messages) {
      const id = headers['ce_id'] ?? '';
      if (seen.has(id)) continue;
      seen.add(id);
      byOrder.set(key, [...(byOrder.get(key) ?? []), `${headers['ce_sequence']} ${headers['ce_type']}`]);
    }
    return byOrder;
  }

  /** Orders whose events are not, or not yet, what they have to be, in their order. */
  function withWrongEvents(): object[] {
    const byOrder = events();
    const paid = ['1 order.created', '2 order.confirmed'];
    return placed
      .map(({ orderId, cancelled }) => ({ orderId, cancelled, events: byOrder.get(orderId) ?? [] }))
      .filter(({ cancelled, events }) => {
        const right = cancelled
          ? [
              [...paid, '3 order.cancelled'],
              ['1 order.created', '2 order.cancelled'],
            ]
          : [paid];
        return !right.some((one) => one.join() === events.join());
      });
  }

  /** Orders with two payments, without one, or with one that outlived its order. */
  async function withWrongPayments(): Promise<object[]> {
    const all = await payments.all();
    const byOrder = Map.groupBy(all, ({ orderId }) => orderId);
    return placed
      .map(({ orderId, cancelled }) => {
        const statuses = byOrder.get(orderId)?.map(({ status }) => status) ?? [];
        return { orderId, cancelled, statuses };
      })
      .filter(({ cancelled, statuses }) => {
        const right = cancelled ? ['', 'VOIDED'] : ['AUTHORIZED'];
        return !right.includes(statuses.join());
      });
  }

  it('and its way back fail no request, lose no order and no event, and charge nobody twice', async () => {
    await migrate(OLD_DIST);
    const [oldApi, oldWorker] = await Promise.all([start('api', OLD_DIST), start('worker', OLD_DIST)]);
    const failures: string[] = [];
    let done = false;
    const clients = Array.from({ length: CLIENTS }, async () => {
      // A connection that stays idle while its process drains learns of it only by its end, which HTTP/1.1 lets meet
      // the next request on its way. From a pool that all share, one would.
      const connection = new Agent({ connections: 1 });
      const call = apiOnce(balancer.url, token, connection);
      for (let round = 0; !done; round += 1) {
        await work(call, round).catch((error: Error) => {
          failures.push(error.message);
          done ||= failures.length > 20; // enough to say what is wrong
        });
        await delay(PAUSE_MS);
      }
      await connection.close();
    });
    try {
      await migrate();
      for (const statement of EXPAND) await database.query(statement);
      const next = await roll({ api: oldApi, worker: oldWorker });
      await migrate(OLD_DIST); // as a tool does that applies the old release again
      await roll(next, OLD_DIST);
    } catch (error) {
      failures.push(String(error)); // beside what the clients saw, which may be its cause
    } finally {
      done = true;
      await Promise.all(clients);
    }
    const errors = services.flatMap(({ lines }) => lines.filter(({ level }) => level === 'error'));
    expect({ failures, because: failures.length > 0 ? errors : [] }).toEqual({ failures: [], because: [] });

    await until('the last event', () => withWrongEvents().length === 0).catch(() => undefined);
    expect(withWrongEvents()).toEqual([]);
    const areVoided = async () => (await withWrongPayments()).length === 0;
    await until('the last void', areVoided).catch(() => undefined);
    expect(await withWrongPayments()).toEqual([]);

    const rows = await database.query<{ id: string; status: string }>('SELECT id, status FROM orders');
    expect(rows.map(({ id, status }) => `${toOrderId(id)} ${status}`).sort()).toEqual(
      placed.map(({ orderId, cancelled }) => `${orderId} ${cancelled ? 'CANCELLED' : 'CONFIRMED'}`).sort(),
    );
    console.log(`${placed.length} orders, ${placed.filter(({ cancelled }) => cancelled).length} of them cancelled`);
  });
});

/** @throws {Error} with the whole answer, when it is another */
async function expecting(status: number, call: Api, ...[path, request]: Parameters<Api>): Promise<Answer> {
  const what = `${request?.method ?? (request ? 'POST' : 'GET')} ${path}`;
  const answer = await call(path, request).catch((error: Error) => {
    throw new Error(`${what}: ${error.message}, ${String(error.cause)}`, { cause: error });
  });
  if (answer.status !== status) throw new Error(`${what}: ${answer.status} ${answer.text}`);
  return answer;
}
