import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { type ServiceProcess, spawnService } from '../support/child';
import { type Answer, anOrder, type Api, api, apiOnce, fetchToken } from '../support/client';
import { createDatabase, PATIENT, type TestDatabase } from '../support/database';
import { inSomeRound } from '../support/until';
import { untilLockIsAwaited } from '../support/lock-wait';

const BURST = 64;

type Request = ReturnType<typeof anOrder>;

/** Orders that arrive together may be kept together; none of them may notice. */
describe('POST /v1/orders in a burst', () => {
  let database: TestDatabase;
  let services: ServiceProcess[];
  let mine: Api;
  let theirs: Api;
  /** The same as `mine`, at another process. */
  let mineElsewhere: Api;

  beforeAll(async () => {
    database = await createDatabase();
    const settings = {
      DATABASE_URL: database.url + PATIENT,
      ROLES: 'api',
    };
    services = await Promise.all([1, 2].map(() => spawnService({ ...settings, LOG_LEVEL: 'fatal' })));
    const urls = services.map(({ url }) => url);
    const token = await fetchToken('order-orchestrator');
    mine = api(urls[0] ?? '', token);
    mineElsewhere = api(urls[1] ?? '', token);
    theirs = api(urls[0] ?? '', await fetchToken('other-tenant'));
    await Promise.all([mine, mineElsewhere, theirs].map((call) => send(call, anOrder({ customerId: 'first' }))));
  });

  afterAll(async () => {
    await Promise.all(services.map((service) => service.end('SIGKILL')));
    await database.drop();
  });

  const send = (call: Api, body: Request) => call('/v1/orders', { body });

  /** Sends while no order can be written, so that what arrives meanwhile waits in the service and goes on together. */
  async function burst(calls: readonly (() => Promise<Answer>)[]): Promise<Answer[]> {
    const lock = new Client(database.superuserUrl);
    await lock.connect();
    await lock.query('BEGIN');
    await lock.query('LOCK TABLE idempotency_keys IN SHARE ROW EXCLUSIVE MODE');
    const answers = Promise.all(calls.map((call) => call()));
    await untilLockIsAwaited(database);
    await delay(50);
    await lock.end();
    return answers;
  }

  const burstOf = (requests: readonly Request[]) => burst(requests.map((request) => () => send(mine, request)));

  const ordersOf = (customerId: string) =>
    Array.from({ length: BURST }, (_, index) => anOrder({ customerId, metadata: { index } }));

  const statusesOf = (answers: readonly Answer[]) => answers.map(({ status }) => status);

  const countOf = async (table: string, condition: string) => {
    const [row] = await database.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table} WHERE ${condition}`);
    return row?.n;
  };

  /** What is kept of the orders of a customer: as many of each. */
  async function expectKept(customerId: string, n: number): Promise<void> {
    const ids = `(SELECT aggregateid FROM outbox WHERE payload ->> 'customerId' = '${customerId}')`;
    expect({
      orders: await countOf('orders', `customer_id = '${customerId}'`),
      events: await countOf('outbox', `payload ->> 'customerId' = '${customerId}'`),
      audited: await countOf('audit_events', `object IN ${ids} AND outcome = 'succeeded'`),
      keys: await countOf('idempotency_keys', `response_body::jsonb ->> 'orderId' IN ${ids}`),
    }).toEqual({ orders: n, events: n, audited: n, keys: n });
  }

  it('gives each order its own answer, of an order that is kept as it was sent', async () => {
    const requests = ordersOf('together');
    const answers = await burstOf(requests);
    expect(statusesOf(answers)).toEqual(requests.map(() => 201));
    expect(new Set(answers.map(({ body }) => body.orderId)).size).toBe(BURST);
    for (const [place, { body, headers }] of answers.entries()) {
      expect(headers.get('location')).toBe(body.links.self);
      const { body: kept } = await mine(body.links.self as string);
      expect({ id: kept.orderId, metadata: kept.metadata }).toEqual({ id: body.orderId, metadata: { index: place } });
    }
    await expectKept('together', BURST);
  });

  it('keeps orders that arrive together in few transactions, and each with all that belongs to it', async () => {
    await burstOf(ordersOf('few_transactions'));
    const [row] = await database.query(
      `SELECT count(*)::int AS orders, count(DISTINCT xmins[1])::int < ${BURST / 2} AS few,
              bool_and(xmins[1] = ALL (xmins)) AS whole
       FROM (
         SELECT ARRAY[o.xmin::text, e.xmin::text, a.xmin::text, k.xmin::text] AS xmins
         FROM outbox e
         JOIN orders o ON o.customer_id = e.payload ->> 'customerId' AND o.metadata = (e.payload -> 'metadata')::jsonb
         JOIN audit_events a ON a.object = e.aggregateid
         JOIN idempotency_keys k ON k.response_body::jsonb ->> 'orderId' = e.aggregateid
         WHERE o.customer_id = 'few_transactions'
       ) AS kept`,
    );
    expect(row).toEqual({ orders: BURST, few: true, whole: true });
  });

  it('refuses the one that PostgreSQL refuses, and accepts its neighbours', async () => {
    await database.query("ALTER TABLE orders ADD CONSTRAINT refused CHECK (customer_id <> 'refused')");
    const requests = ordersOf('beside_refused');
    const bad = anOrder({ customerId: 'refused' });
    requests[20] = bad;
    const answers = await burstOf(requests);
    expect(statusesOf(answers)).toEqual(requests.map((request) => (request === bad ? 500 : 201)));
    expect(answers[20]?.body.error.code).toBe('INTERNAL_ERROR');
    await expectKept('beside_refused', BURST - 1);
    await expectKept('refused', 0);

    await database.query('ALTER TABLE orders DROP CONSTRAINT refused');
    const retried = await send(mine, bad);
    expect([retried.status, retried.headers.has('idempotent-replayed')]).toEqual([201, false]);
    await expectKept('refused', 1);
    const again = await burstOf(requests);
    expect(again.map(({ text }) => text)).toEqual(
      answers.map(({ text }, place) => (place === 20 ? retried.text : text)),
    );
    expect(again.every(({ headers }) => headers.get('idempotent-replayed') === 'true')).toBe(true);
    await expectKept('beside_refused', BURST - 1);
  });

  it('accepts a key once that comes twice, and gives both the same answer', async () => {
    const requests = ordersOf('twice').slice(0, BURST / 2);
    const answers = await burstOf(requests.flatMap((request) => [request, request]));
    expect(statusesOf(answers)).toEqual(answers.map(() => 201));
    for (const [place] of requests.entries()) {
      const [one, two] = answers.slice(2 * place, 2 * place + 2);
      expect(two?.text).toBe(one?.text);
      expect([one, two].filter((answer) => answer?.headers.has('idempotent-replayed'))).toHaveLength(1);
    }
    await expectKept('twice', requests.length);
  });

  it('accepts one of two requests with the same key, and answers 409 to the other', async () => {
    const requests = ordersOf('conflict').slice(0, BURST / 2);
    const answers = await burstOf(
      requests.flatMap((request) => [request, { ...request, metadata: { sourceSystem: 'other' } }]),
    );
    for (const [place] of requests.entries()) {
      const pair = answers.slice(2 * place, 2 * place + 2);
      expect(statusesOf(pair).sort()).toEqual([201, 409]);
      expect(pair.find(({ status }) => status === 409)?.body.error.code).toBe('IDEMPOTENCY_KEY_REUSED');
    }
    await expectKept('conflict', requests.length);
  });

  it('replays what was accepted before beside what is new', async () => {
    const requests = ordersOf('old_and_new');
    const before = await burstOf(requests.filter((_, place) => place % 2 === 0));
    const answers = await burstOf(requests);
    expect(statusesOf(answers)).toEqual(requests.map(() => 201));
    expect(answers.map(({ headers }) => headers.has('idempotent-replayed'))).toEqual(
      requests.map((_, place) => place % 2 === 0),
    );
    expect(answers.filter((_, place) => place % 2 === 0).map(({ text }) => text)).toEqual(
      before.map(({ text }) => text),
    );
    await expectKept('old_and_new', BURST);
  });

  it('keeps the keys of two tenants apart', async () => {
    const requests = ordersOf('tenants').slice(0, BURST / 2);
    const answers = await burst(
      requests.flatMap((request) => [() => send(mine, request), () => send(theirs, request)]),
    );
    expect(statusesOf(answers)).toEqual(answers.map(() => 201));
    expect(new Set(answers.map(({ body }) => body.orderId)).size).toBe(BURST);
    for (const [place, { body }] of answers.entries()) {
      const [owner, other] = place % 2 === 0 ? [mine, theirs] : [theirs, mine];
      expect((await owner(body.links.self as string)).status).toBe(200);
      expect((await other(body.links.self as string)).status).toBe(404);
    }
    await expectKept('tenants', BURST);
  });

  it('accepts keys once that come to two processes in opposite orders', async () => {
    for (let round = 1; round <= 3; round += 1) {
      const customerId = `two_processes_${round}`;
      const requests = ordersOf(customerId);
      const answers = await burst([
        ...requests.map((request) => () => send(mine, request)),
        ...requests.toReversed().map((request) => () => send(mineElsewhere, request)),
      ]);
      expect(statusesOf(answers)).toEqual(answers.map(() => 201));
      const texts = answers.map(({ text }) => text);
      expect(texts.slice(BURST).reverse()).toEqual(texts.slice(0, BURST));
      await expectKept(customerId, BURST);
    }
  });
});

describe('POST /v1/orders beside a key that another transaction holds on to', () => {
  let database: TestDatabase;
  let service: ServiceProcess;
  let orders: Api;
  let once: Api;

  beforeAll(async () => {
    database = await createDatabase();
    service = await spawnService({ DATABASE_URL: database.url, ROLES: 'api', LOG_LEVEL: 'fatal' });
    const token = await fetchToken('order-orchestrator');
    orders = api(service.url, token);
    once = apiOnce(service.url, token);
  });

  afterAll(async () => {
    await service.end('SIGKILL');
    await database.drop();
  });

  it('is 503 for that key alone', async () => {
    const held = anOrder();
    const { body } = await orders('/v1/orders', { body: held });
    const holder = new Client(database.superuserUrl);
    holder.on('error', () => undefined); // of a failed test its database is dropped
    await holder.connect();
    await holder.query('BEGIN');
    const sql = "DELETE FROM idempotency_keys WHERE response_body::jsonb ->> 'orderId' = $1";
    expect((await holder.query(sql, [body.orderId])).rowCount).toBe(1);
    await inSomeRound(async () => {
      const requests = Array.from({ length: BURST }, () => anOrder());
      requests[20] = held;
      const answers = await Promise.all(requests.map((request) => once('/v1/orders', { body: request })));
      expect(answers.map(({ status }) => status)).toEqual(requests.map((request) => (request === held ? 503 : 201)));
    });
    await holder.end();
    const again = await orders('/v1/orders', { body: held });
    expect([again.status, again.body.orderId]).toEqual([201, body.orderId]);
  });
});
