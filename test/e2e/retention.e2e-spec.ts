import { setTimeout as delay } from 'node:timers/promises';
import { fromUUID } from 'typeid-js';
import { type Queryable, retentionRules } from '../../apps/order-service/src/privacy/retention-rules';
import { RetentionService } from '../../apps/order-service/src/privacy/retention.service';
import { api } from '../support/client';
import { runToEnd } from '../support/run-program';
import { startService, type TestService } from '../support/service';

describe('Retention', () => {
  const periods = { ORDER_RETENTION_DAYS: '100', AUDIT_RETENTION_DAYS: '40' };
  let service: TestService;
  let retention: RetentionService;

  beforeAll(async () => {
    service = await startService({ ROLES: 'worker', ...periods });
    retention = service.app.get(RetentionService, { strict: false });
  });
  afterAll(() => service.stop());
  beforeEach(() => service.database.query('TRUNCATE orders, outbox, outbox_parked, inbox, idempotency_keys CASCADE'));

  const query = <T extends object>(text: string, values?: unknown[]) => service.database.query<T>(text, values);
  const keys = (count: number, hours: number) =>
    query(
      `INSERT INTO idempotency_keys (tenant_id, client_id, route, key, fingerprint, response_body, created_at)
       SELECT 't', 'c', 'r', ($2 || '-' || n)::bytea, '', '', now() - $2::float * interval '1 hour' FROM generate_series(1, $1::int) AS n`,
      [count, hours],
    );
  const events = async (count: number, hours: number, { published = true, aggregate = 'ord_x' } = {}) => {
    // Else the relay would publish them.
    if (!published)
      await query("INSERT INTO outbox_parked (aggregateid, position, reason) VALUES ($1, 1, 'test')", [aggregate]);
    await query(
      `INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence, created_at, published_at)
       SELECT gen_random_uuid(), 'order', $3, 'order.created', '{}', 1, moment, CASE WHEN $4 THEN moment END
       FROM generate_series(1, $1::int), (SELECT now() - $2::float * interval '1 hour' AS moment) AS m`,
      [count, hours, aggregate, published],
    );
  };
  const inbox = (count: number, hours: number) =>
    query(
      `INSERT INTO inbox (consumer, event_id, consumed_at)
       SELECT 'payments', $2 || '-' || n, now() - $2::float * interval '1 hour' FROM generate_series(1, $1::int) AS n`,
      [count, hours],
    );
  const order = async (days: number, status: string, payment: string | null, { asked = true, count = 1 } = {}) => {
    const [row] = await query<{ id: string }>(
      `INSERT INTO orders (id, tenant_id, client_id, customer_id, status, currency, total_value, items, version,
                           event_sequence, created_at, updated_at, payment_status)
       SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '7000' || '8000' ||
               substr(md5(random()::text), 1, 12))::uuid,
              't', 'c', 'cust', $2, 'USD', 1, '[]', 1, 1, moment, moment, $3
       FROM generate_series(1, $4::int), (SELECT now() - $1::float * interval '1 day' AS moment) AS m RETURNING id`,
      [days, status, payment, count],
    );
    const id = row?.id ?? '';
    await query('INSERT INTO payments (order_id, asked_at) VALUES ($1, CASE WHEN $2 THEN now() END)', [id, asked]);
    return id;
  };
  const left = async (table: string) => (await query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table}`))[0]?.n;

  it('deletes from each table what is older than its own period, in more than one batch', async () => {
    await keys(2_500, 169);
    await keys(3, 167);
    await events(2_500, 25);
    await events(4, 23);
    await inbox(1_500, 35 * 24 + 1);
    await inbox(5, 35 * 24 - 1);
    const [gone, kept] = [await order(101, 'CONFIRMED', 'AUTHORIZED'), await order(99, 'CONFIRMED', 'AUTHORIZED')];
    const due = { idempotency_keys: 2_500, outbox: 2_500, inbox: 1_500, orders: 1, audit_events: 0 };
    expect(await retention.count()).toEqual(due);
    expect(await retention.sweep()).toEqual(due);
    expect(await Promise.all(['idempotency_keys', 'outbox', 'inbox', 'payments'].map(left))).toEqual([3, 4, 5, 1]);
    expect(await query('SELECT id FROM orders')).toEqual([{ id: kept }]);
    expect(kept).not.toBe(gone);
    expect(await retention.sweep()).toEqual({ idempotency_keys: 0, outbox: 0, inbox: 0, orders: 0, audit_events: 0 });
    const { text } = await api(service.url)('/metrics');
    expect(text).toMatch(/^retention_deleted_total\{table="outbox"\} 2500$/m);
    expect(Number(/^retention_last_success_timestamp_seconds (.+)$/m.exec(text)?.[1])).toBeGreaterThan(
      Date.now() / 1_000 - 60,
    );
  });

  it('finds published events behind many old ones that are not published, and keeps those', async () => {
    await events(1_200, 48, { published: false });
    await events(1_200, 48);
    await events(10, 1);
    expect(await retention.sweep()).toMatchObject({ outbox: 1_200 });
    expect(await left('outbox')).toBe(1_210);
  });

  it.each<[string, boolean, () => Promise<string>]>([
    ['was rejected and declined', true, () => order(200, 'REJECTED', 'DECLINED')],
    ['was cancelled and voided', true, () => order(200, 'CANCELLED', 'VOIDED')],
    ['was cancelled before its payment was asked for', true, () => order(200, 'CANCELLED', null, { asked: false })],
    ['is pending', false, () => order(200, 'PENDING', null, { asked: false })],
    ['was cancelled, and nobody knows of its payment', false, () => order(200, 'CANCELLED', null)],
    ['was rejected, and nobody knows of its payment', false, () => order(200, 'REJECTED', null)],
    ['was cancelled, and whose payment is to be voided', false, () => order(200, 'CANCELLED', 'AUTHORIZED')],
    ['was rejected, and whose payment is to be voided', false, () => order(200, 'REJECTED', 'AUTHORIZED')],
    [
      'has an event that is not published',
      false,
      async () => {
        const id = await order(200, 'CONFIRMED', 'AUTHORIZED');
        await events(1, 1, { published: false, aggregate: fromUUID(id, 'ord') });
        return id;
      },
    ],
    [
      'changed lately',
      false,
      async () => {
        const id = await order(200, 'CANCELLED', 'VOIDED');
        await query('UPDATE orders SET updated_at = now() WHERE id = $1', [id]);
        return id;
      },
    ],
  ])('as for an order that %s: deletes it: %s', async (_, isDeleted, make) => {
    await make();
    expect(await retention.sweep()).toMatchObject({ orders: isDeleted ? 1 : 0 });
    expect(await left('orders')).toBe(isDeleted ? 0 : 1);
  });

  it('goes on behind a whole batch of orders, also where it had to keep one of them', async () => {
    const oldest = await order(300, 'CONFIRMED', 'AUTHORIZED');
    await events(1, 1, { published: false, aggregate: fromUUID(oldest, 'ord') });
    await order(200, 'CONFIRMED', 'AUTHORIZED', { count: 1_000 });
    expect(await retention.sweep()).toMatchObject({ orders: 1_000 });
    expect(await query('SELECT id FROM orders')).toEqual([{ id: oldest }]);
  });

  it('leaves an order that somebody holds for the next time, and deletes the others', async () => {
    const held = await order(300, 'CONFIRMED', 'AUTHORIZED');
    await order(200, 'CONFIRMED', 'AUTHORIZED');
    await query('BEGIN');
    try {
      await query('SELECT FROM orders WHERE id = $1 FOR UPDATE', [held]);
      expect(await retention.sweep()).toMatchObject({ orders: 1 });
    } finally {
      await query('ROLLBACK');
    }
    expect(await query('SELECT id FROM orders')).toEqual([{ id: held }]);
    expect(await retention.sweep()).toMatchObject({ orders: 1 });
  });

  it('deletes the events of audit blocks that are older, and keeps the blocks', async () => {
    await query('ALTER TABLE audit_blocks DISABLE TRIGGER USER');
    for (const [number, days] of [
      [1, 50],
      [2, 41],
      [3, 39],
    ] as const) {
      await query(
        `WITH event AS (
           INSERT INTO audit_events (id, occurred_at, action, outcome)
           VALUES (gen_random_uuid(), now(), 'test', 'succeeded') RETURNING id, position
         )
         INSERT INTO audit_blocks (number, sealed_at, last_position, event_ids, event_macs, previous, mac)
         SELECT $1, now() - $2::int * interval '1 day', position, ARRAY[id], '', '', '' FROM event`,
        [number, days],
      );
    }
    expect(await retention.count()).toMatchObject({ audit_events: 2 });
    expect(await retention.sweep()).toMatchObject({ audit_events: 2 });
    expect(await Promise.all(['audit_events', 'audit_blocks'].map(left))).toEqual([1, 3]);
    expect(await retention.count()).toMatchObject({ audit_events: 0 });
  });

  it('goes by the age of events where change data capture publishes them', async () => {
    const other = await startService({ ROLES: 'worker', OUTBOX_RELAY: 'off' });
    await other.database.query(
      `INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence, created_at)
       SELECT gen_random_uuid(), 'order', 'ord_x', 'order.created', '{}', n, now() - n * interval '20 hours'
       FROM generate_series(1, 2) AS n`,
    );
    expect(await other.app.get(RetentionService, { strict: false }).sweep()).toMatchObject({ outbox: 1 });
    await other.stop();
  });

  it('deletes a settled order although its events are not marked as published, where nothing marks them', async () => {
    const id = await order(200, 'CONFIRMED', 'AUTHORIZED');
    await events(1, 1, { published: false, aggregate: fromUUID(id, 'ord') });
    const rule = retentionRules({ ...service.config, outboxRelay: false }).find(({ table }) => table === 'orders')!;
    expect(await rule.deleteBatch({ query: query as Queryable['query'] }, rule.start, 10)).toMatchObject({
      deleted: 1,
    });
    expect(await left('orders')).toBe(0);
  });

  it('finds no order by its id where orders are kept for longer than there are ids', async () => {
    await order(1, 'CONFIRMED', 'AUTHORIZED');
    await query("UPDATE orders SET updated_at = '1900-01-01'"); // so that its id alone keeps it
    const { retention, ...config } = service.config;
    const rules = retentionRules({ ...config, retention: { ...retention, orderDays: 36_500 } });
    const db = { query: query as Queryable['query'] };
    expect(await rules.find(({ table }) => table === 'orders')?.count(db)).toBe(0);
  });

  it('counts for as long as it takes', async () => {
    await query('BEGIN');
    await query('LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE');
    const counts = retention.count();
    await delay(1_600); // more than a request’s statement may take
    await query('COMMIT');
    expect(await counts).toMatchObject({ outbox: 0 });
  });

  /** @param body in PL/pgSQL: what happens at each statement that deletes keys */
  async function expectKeysDeletedDespite(body: string): Promise<void> {
    await keys(3, 169);
    await query(`CREATE FUNCTION at_deletion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
                 $$ BEGIN ${body} RETURN NULL; END $$`);
    await query('CREATE TRIGGER at_deletion AFTER DELETE ON idempotency_keys EXECUTE FUNCTION at_deletion()');
    try {
      expect(await retention.sweep()).toMatchObject({ idempotency_keys: 3 });
    } finally {
      await query('DROP FUNCTION at_deletion CASCADE');
    }
  }

  it('deletes for longer than a request’s statement may take, and waits for locks no longer than 2 s', () =>
    expectKeysDeletedDespite(`
      ASSERT current_setting('lock_timeout') = '2s', 'It would stand in the way of others';
      PERFORM pg_sleep(1.5);`));

  it('tries a batch again that met a deadlock', async () => {
    await query('CREATE SEQUENCE attempts');
    await expectKeysDeletedDespite("IF nextval('attempts') = 1 THEN RAISE deadlock_detected; END IF;");
    await query('DROP SEQUENCE attempts');
  });

  it('deletes no more when the process ends', async () => {
    await keys(3, 169);
    const ended = new RetentionService(service.config, { inc: jest.fn() } as never, {} as never);
    ended.beforeApplicationShutdown();
    expect(await ended.sweep()).toBeUndefined();
    expect(await left('idempotency_keys')).toBe(3);
  });

  it('goes on with the other tables when one cannot be swept, and says which', async () => {
    await keys(3, 169);
    await inbox(2, 35 * 24 + 1);
    const lastSuccess = async () =>
      /^retention_last_success_timestamp_seconds .+$/m.exec((await api(service.url)('/metrics')).text)?.[0];
    const before = await lastSuccess();
    await order(101, 'CONFIRMED', 'AUTHORIZED');
    await query('CREATE TABLE things_of_orders (order_id uuid REFERENCES orders)');
    await query('INSERT INTO things_of_orders SELECT id FROM orders');
    const failure: unknown = await retention.sweep().catch((error: unknown) => error);
    await query('DROP TABLE things_of_orders');
    expect((failure as AggregateError).message).toMatch(/^orders: update or delete on table "orders" violates/);
    expect(await Promise.all(['idempotency_keys', 'inbox', 'orders'].map(left))).toEqual([0, 0, 1]);
    expect(await lastSuccess()).toBe(before);
  });

  it('leaves the work to the one that is at it', async () => {
    await query('SELECT pg_advisory_lock(5126993071284)');
    expect(await retention.sweep()).toBeUndefined();
    await query('SELECT pg_advisory_unlock(5126993071284)');
    expect(await retention.sweep()).toBeDefined();
  });

  it('does the work once for all in the process who ask for it meanwhile', async () => {
    await keys(3, 169);
    const [first, second] = await Promise.all([retention.sweep(), retention.sweep()]);
    expect(first).toMatchObject({ idempotency_keys: 3 });
    expect(second).toBe(first);
  });

  it('says in a dry run what would go, and is run by hand', async () => {
    await keys(3, 200);
    const run = (...args: string[]) => runToEnd('retention', { DATABASE_URL: service.database.url, ...periods }, args);
    const out = ['idempotency_keys: 3', 'outbox: 0', 'inbox: 0', 'orders: 0', 'audit_events: 0']
      .map((line) => `${line} would be deleted\n`)
      .join('');
    expect(await run('--dry-run')).toMatchObject({ code: 0, out });
    expect(await left('idempotency_keys')).toBe(3);
    expect(await run()).toMatchObject({ code: 0, out: expect.stringContaining('idempotency_keys: 3 deleted\n') });
    expect(await left('idempotency_keys')).toBe(0);
  });
});
