import { setTimeout as delay } from 'node:timers/promises';
import { runProgram } from '../../apps/sandbox/src/program';
import { Balancer } from '../support/balancer';
import { type ServiceProcess, spawnService } from '../support/child';
import { anOrder, type Api, api, fetchToken } from '../support/client';
import { createDatabase, type TestDatabase } from '../support/database';
import { environment } from '../support/environment';
import { Payments } from '../support/payments';
import { pieces } from '../support/pieces';
import { describeWithKafka, Topic } from '../support/topic';
import { until } from '../support/until';

const CLIENTS = 4;
/** Of a client after each order, so that the processes that start get some of the machine too. */
const PAUSE_MS = 20;
/** How long the clients go on before, between and after the rolls. */
const MEANWHILE_MS = 500;
const PATIENCE_MS = 60_000;
const TEST_MS = 180_000;

/** The build of version N (`.ci/rehearse` makes it). Without it N is this build too, and only the schema differs. */
const OLD_DIST = process.env['REHEARSE_OLD_DIST'];

/** What N+1's migration may do while N runs. To N it is a migration of which it knows nothing. */
const EXPAND = [
  'ALTER TABLE orders ADD COLUMN rehearsed text',
  'CREATE INDEX CONCURRENTLY orders_rehearsed ON orders (rehearsed)',
  "INSERT INTO migrations (timestamp, name) VALUES (9999999999999, 'Rehearse9999999999999')",
];

interface Placed {
  readonly orderId: string;
  cancelled: boolean;
}

interface Version {
  readonly api: ServiceProcess;
  readonly worker: ServiceProcess;
}

describeWithKafka('A release under load', () => {
  const running = new Set<ServiceProcess>();
  const placed: Placed[] = [];
  let database: TestDatabase;
  let payments: Payments;
  let topic: Topic;
  let balancer: Balancer;
  let token: string;

  beforeAll(async () => {
    database = await createDatabase({ empty: true });
    payments = await Payments.start();
    topic = await Topic.read();
    balancer = await Balancer.start();
    token = await fetchToken('order-orchestrator');
  }, TEST_MS);

  afterAll(async () => {
    await Promise.all([...running].map((service) => service.end('SIGKILL')));
    balancer.stop();
    await topic.close();
    await payments.goAway();
    await database.drop();
  }, TEST_MS);

  /** As the chart's hook runs it before each release, also before one that goes back. */
  async function migrate(dist?: string): Promise<void> {
    const urls = { DATABASE_URL: database.url, DATABASE_MIGRATION_URL: database.superuserUrl };
    await runProgram('database/migrate', environment({ PATH: process.env['PATH'], ...urls }), [], dist);
  }

  async function start(roles: 'api' | 'worker', dist?: string): Promise<ServiceProcess> {
    const env = {
      DATABASE_URL: database.url,
      KAFKA_BROKERS: pieces().kafkaBrokers,
      PAYMENT_API_URL: payments.url,
      ROLES: roles,
      LOG_LEVEL: 'warn',
      // An api serves on until the balancer has seen that it is not ready.
      SHUTDOWN_DELAY_MS: roles === 'api' ? '1000' : '0',
    };
    const service = await spawnService(env, dist);
    running.add(service);
    if (roles === 'api') balancer.add(service.url);
    const isReady = async () => (await api(service.url)('/health/ready')).status === 200;
    await until('readiness', roles === 'api' ? () => balancer.isReady(service.url) : isReady, PATIENCE_MS);
    return service;
  }

  async function startBoth(dist?: string): Promise<Version> {
    const [api, worker] = await Promise.all([start('api', dist), start('worker', dist)]);
    return { api, worker };
  }

  async function end(service: ServiceProcess): Promise<void> {
    expect(await service.end()).toBe(0);
    balancer.remove(service.url);
    running.delete(service);
  }

  /** New ones first, as `maxUnavailable: 0` has it. */
  async function roll(old: Version, dist?: string): Promise<Version> {
    const next = await startBoth(dist);
    await meet(api(old.api.url, token), api(next.api.url, token));
    await meet(api(next.api.url, token), api(old.api.url, token));
    await end(old.api);
    await end(old.worker);
    return next;
  }

  /** What one version has given is good at the other. */
  async function meet(first: Api, second: Api): Promise<void> {
    const body = anOrder();
    const made = await first('/v1/orders', { body });
    const again = await second('/v1/orders', { body });
    expect([made.status, again.status, again.text]).toEqual([201, 201, made.text]);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    const { orderId } = made.body as Placed;
    const page = await first('/v1/orders?limit=1');
    expect((await second(page.body.links.next as string)).status).toBe(200);
    const read = () => first(`/v1/orders/${orderId}`);
    await until('the payment', async () => (await read()).body.status === 'CONFIRMED', PATIENCE_MS);
    const headers = { 'if-match': (await read()).headers.get('etag') ?? '' };
    expect((await second(`/v1/orders/${orderId}/cancel`, { method: 'POST', headers })).status).toBe(200);
    placed.push({ orderId, cancelled: true });
  }

  /** No retry anywhere: what fails here fails at a client. */
  async function work(call: Api, round: number): Promise<void> {
    const body = anOrder();
    const made = await call('/v1/orders', { body });
    expect(made.status).toBe(201);
    const { orderId } = made.body as Placed;
    const cancelled = round % 5 === 0;
    placed.push({ orderId, cancelled });
    const again = await call('/v1/orders', { body });
    expect([again.status, again.headers.get('idempotent-replayed'), again.text]).toEqual([201, 'true', made.text]);
    const read = await call(`/v1/orders/${orderId}`);
    expect([read.status, read.body.orderId]).toEqual([200, orderId]);
    expect((await call('/v1/orders?limit=2')).status).toBe(200);
    if (cancelled) expect((await call(`/v1/orders/${orderId}/cancel`, { method: 'POST' })).status).toBe(200);
  }

  /** @returns what clients saw fail while `rolls` went on */
  async function underLoad(rolls: () => Promise<void>): Promise<string[]> {
    const call = api(balancer.url, token);
    const failures: string[] = [];
    let done = false;
    const clients = Array.from({ length: CLIENTS }, async () => {
      for (let round = 0; !done; round += 1) {
        await work(call, round).catch((error: Error) => failures.push(`${error.message} ${String(error.cause)}`));
        await delay(PAUSE_MS);
      }
    });
    try {
      await rolls();
    } finally {
      done = true;
      await Promise.all(clients);
    }
    return failures;
  }

  /** @returns the headers of its events, each once however often it was delivered */
  const eventsOf = (orderId: string) => [
    ...new Map(topic.about(orderId).map(({ headers }) => [headers['ce_id'], headers])).values(),
  ];

  it(
    'and its way back fail no request, lose no order and no event, and charge nobody twice',
    async () => {
      await migrate(OLD_DIST);
      const old = await startBoth(OLD_DIST);
      const failures = await underLoad(async () => {
        await delay(MEANWHILE_MS);
        await migrate();
        for (const statement of EXPAND) await database.query(statement);
        const next = await roll(old);
        await delay(MEANWHILE_MS);
        await migrate(OLD_DIST);
        await roll(next, OLD_DIST);
        await delay(MEANWHILE_MS);
      });
      expect(failures).toEqual([]);

      const last = ({ orderId }: Placed) => eventsOf(orderId).at(-1)?.['ce_type'];
      const wanted = ({ cancelled }: Placed) => (cancelled ? 'order.cancelled' : 'order.confirmed');
      const lacking = () => placed.filter((order) => last(order) !== wanted(order));
      await until('every event', () => lacking().length === 0, PATIENCE_MS);
      for (const { orderId } of placed) {
        const sequence = eventsOf(orderId).map((headers) => Number(headers['ce_sequence']));
        expect([orderId, sequence]).toEqual([orderId, sequence.map((_, index) => index + 1)]);
      }

      const rows = await database.query<{ payload: { orderId: string } }>(
        "SELECT payload FROM outbox WHERE type = 'order.created'",
      );
      const kept = rows.map(({ payload }) => payload.orderId).sort();
      expect(kept).toEqual(placed.map(({ orderId }) => orderId).sort());
      expect(await database.query('SELECT FROM orders')).toHaveLength(placed.length);
      const charged = (await payments.all()).map(({ orderId }) => orderId);
      expect(new Set(charged).size).toBe(charged.length);
      const unpaid = placed.filter(({ orderId, cancelled }) => !cancelled && !charged.includes(orderId));
      expect(unpaid).toEqual([]);
    },
    TEST_MS,
  );
});
