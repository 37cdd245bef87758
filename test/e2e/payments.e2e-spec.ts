import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { idsFrom, newTimeId } from '@platform/ids';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { fromUUID } from 'typeid-js';
import { toOrderUuid } from '../../apps/order-service/src/orders/order-lifecycle.service';
import { PendingOrders } from '../../apps/order-service/src/payments/pending-orders';
import { listen, type RunningServer } from '../../apps/sandbox/src/listen';
import { AUDIENCE, CLIENT_SECRET } from '../../apps/sandbox/src/settings';
import { type Api, anOrder, api, fetchToken, metric, placeOrder } from '../support/client';
import { Payments } from '../support/payments';
import { pieces } from '../support/pieces';
import { startService, type TestService } from '../support/service';
import { until } from '../support/until';

const directory = mkdtempSync(path.join(tmpdir(), 'order-payments-'));
let payments: Payments;
let token: string;

beforeAll(async () => {
  payments = await Payments.start(path.join(directory, 'payments.jsonl'));
  token = await fetchToken('order-orchestrator');
});
afterAll(async () => {
  await payments.goAway();
  rmSync(directory, { recursive: true });
});

/** A service with both roles and without Kafka, and what tests ask of it. */
class Scene {
  private constructor(
    readonly service: TestService,
    readonly orders: Api,
  ) {}

  static async start(overrides: NodeJS.ProcessEnv = {}): Promise<Scene> {
    const service = await startService({ ROLES: 'api,worker', PAYMENT_API_URL: payments.url, ...overrides });
    return new Scene(service, api(service.url, token));
  }

  async place(customerId: string): Promise<string> {
    return (await placeOrder(this.orders, anOrder({ customerId }))).orderId;
  }

  async get(orderId: string) {
    return (await this.orders(`/v1/orders/${orderId}`)).body;
  }

  cancel(orderId: string) {
    return this.orders(`/v1/orders/${orderId}/cancel`, { method: 'POST' });
  }

  ends(orderId: string, status: string) {
    return until(`${status} of ${orderId}`, async () => (await this.get(orderId)).status === status);
  }

  eventsOf(orderId: string) {
    return this.service.database.query<{ type: string; sequence: number; payload: Record<string, unknown> }>(
      'SELECT type, sequence, payload FROM outbox WHERE aggregateid = $1 ORDER BY position',
      [orderId],
    );
  }

  metric(name: string): Promise<number> {
    return metric(this.service.url, name);
  }

  /** Has the job of the order run now, which otherwise stands back longer each time. */
  async retry(orderId: string): Promise<void> {
    await until('the job that waits', async () => {
      const retried = await this.service.database.query(
        `UPDATE graphile_worker._private_jobs SET run_at = now()
         WHERE locked_at IS NULL AND payload ->> 'orderId' = $1 RETURNING id`,
        [orderId],
      );
      return retried.length > 0;
    });
  }

  async attemptsOf(orderId: string): Promise<number> {
    const [row] = await this.service.database.query<{ attempts: number }>(
      `SELECT attempts FROM payments JOIN orders ON id = order_id
       WHERE id = (SELECT id FROM orders WHERE id::text = $1)`,
      [uuidOf(orderId)],
    );
    return row?.attempts ?? NaN;
  }
}

/** Of one test, and ended with it, however the test ends. */
let own: Scene | undefined;
async function ownScene(overrides: NodeJS.ProcessEnv = {}): Promise<Scene> {
  own = await Scene.start(overrides);
  return own;
}
afterEach(async () => {
  await own?.service.stop();
  own = undefined;
  await payments.comeBack();
});

/** The UUID inside a TypeID, found the slow way so that it is not the code under test that finds it. */
function uuidOf(orderId: string): string {
  const digits = '0123456789abcdefghjkmnpqrstvwxyz';
  let number = 0n;
  for (const digit of orderId.slice('ord_'.length)) number = number * 32n + BigInt(digits.indexOf(digit));
  const hex = number.toString(16).padStart(32, '0');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

const HOUR = 3_600;

/** An order as the API stores one, without its event. */
async function strand({ service }: Scene, tenant: string, hours: number, status = 'PENDING') {
  const moment = new Date(Date.now() - hours * HOUR * 1_000).toISOString();
  const id = idsFrom(moment).slice(0, 13) + newTimeId().slice(13);
  await service.database.query(
    `INSERT INTO orders (id, tenant_id, client_id, customer_id, status, currency, total_value, items, version,
                         event_sequence, created_at, updated_at)
     VALUES ($1, $2, 'c', 'cust_123', $3, 'USD', 1, '[{"sku": "ABC-001", "quantity": 1}]', 1, 1, $4, $4)`,
    [id, tenant, status, moment],
  );
  return id;
}

describe('An order and its payment', () => {
  let scene: Scene;

  beforeAll(async () => {
    scene = await Scene.start({ PAYMENT_API_ATTEMPT_TIMEOUT_MS: '3000' });
  });
  afterAll(() => scene.service.stop());

  it('ends CONFIRMED with one authorised payment of its total, and says so', async () => {
    const orderId = await scene.place('cust_123');
    await scene.ends(orderId, 'CONFIRMED');
    const [payment, ...others] = await payments.of(orderId);
    expect(others).toEqual([]);
    expect(payment).toMatchObject({
      orderId,
      customerId: 'cust_123',
      amount: { currency: 'USD', value: '129.99' },
      status: 'AUTHORIZED',
    });
    const order = await scene.get(orderId);
    expect(order).toMatchObject({ version: 2, payment: { paymentId: payment?.paymentId, status: 'AUTHORIZED' } });
    const { links: _links, ...data } = order;
    expect((await scene.eventsOf(orderId)).slice(1)).toEqual([{ type: 'order.confirmed', sequence: 2, payload: data }]);
  });

  it('leaves no id in the metrics: of no order, event, payment, audit event or client', async () => {
    const orderId = await scene.place('cust_measured');
    await scene.ends(orderId, 'CONFIRMED');
    const confirmed = /^events_published_total\{type="order.confirmed"\} [1-9]/m;
    const text = await until('the event', async () => {
      const answer = await api(scene.service.url)('/metrics');
      return confirmed.test(answer.text) && answer.text;
    });
    expect(text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-|(ord|evt|aud)_[0-9a-z]{26}|order-orchestrator/);
  });

  it('ends REJECTED with the reason when the payment is declined', async () => {
    const orderId = await scene.place('cust_declined');
    await scene.ends(orderId, 'REJECTED');
    const [payment] = await payments.of(orderId);
    const order = await scene.get(orderId);
    expect(order.payment).toEqual({ paymentId: payment?.paymentId, status: 'DECLINED' });
    expect(order.reason).toBe('insufficient_funds');
    const { links: _links, ...data } = order;
    expect((await scene.eventsOf(orderId)).slice(1)).toEqual([{ type: 'order.rejected', sequence: 2, payload: data }]);
  });

  it('ends CONFIRMED with one charge when the payment API fails twice', async () => {
    const orderId = await scene.place('cust_flaky');
    await scene.ends(orderId, 'CONFIRMED');
    expect(await payments.of(orderId)).toHaveLength(1);
    expect(await scene.metric('jobs_total{task="process-payment",outcome="completed"}')).toBeGreaterThan(0);
  });

  it('stays PENDING while the payment API is slow, and ends CONFIRMED with one charge', async () => {
    const orderId = await scene.place('cust_slow');
    await until('the charge', async () => (await payments.of(orderId)).length === 1);
    const timeouts = 'payment_requests_total{outcome="timeout"}';
    await until('an attempt without an answer', async () => (await scene.metric(timeouts)) >= 1);
    expect(await scene.get(orderId)).toMatchObject({ status: 'PENDING', version: 1 });
    await scene.ends(orderId, 'CONFIRMED');
    expect(await payments.of(orderId)).toHaveLength(1);
    expect((await scene.eventsOf(orderId)).map(({ type }) => type)).toEqual(['order.created', 'order.confirmed']);
  });

  it('stays PENDING while the payment API fails, and is asked for again and again', async () => {
    const orderId = await scene.place('cust_down');
    await until('three runs', async () => (await scene.attemptsOf(orderId)) >= 3);
    expect(await scene.get(orderId)).toMatchObject({ status: 'PENDING', version: 1 });
    expect((await scene.get(orderId)).payment).toBeUndefined();
    expect(await payments.of(orderId)).toEqual([]);
    expect(await scene.metric('payment_stuck_attempts_total')).toBe(0);
    await scene.service.database.query('UPDATE payments SET attempts = 8 WHERE order_id = $1', [uuidOf(orderId)]);
    await scene.retry(orderId);
    await until('the ninth attempt', async () => (await scene.attemptsOf(orderId)) === 9);
    expect(await scene.metric('payment_stuck_attempts_total')).toBe(0);
    await scene.retry(orderId);
    await until('the tenth', async () => (await scene.metric('payment_stuck_attempts_total')) === 1);
    expect((await scene.cancel(orderId)).body.status).toBe('CANCELLED');
  });

  it('has one effect per event, however often it is delivered', async () => {
    const orderId = await scene.place('cust_again');
    await scene.ends(orderId, 'CONFIRMED');
    const duplicates = 'events_consumed_total{type="order.created",outcome="duplicate"}';
    const before = await scene.metric(duplicates);
    const unpublished = 'SELECT FROM outbox WHERE aggregateid = $1 AND published_at IS NULL';
    for (let redelivery = 1; redelivery <= 3; redelivery += 1) {
      // A mark that came later would be of the delivery before, and keep this one back.
      await until('the marks', async () => (await scene.service.database.query(unpublished, [orderId])).length === 0);
      await scene.service.database.query('UPDATE outbox SET published_at = NULL WHERE aggregateid = $1', [orderId]);
      await until('the redelivery', async () => (await scene.metric(duplicates)) >= before + redelivery);
    }
    await delay(300);
    expect(await payments.of(orderId)).toHaveLength(1);
    expect(await scene.eventsOf(orderId)).toHaveLength(2);
    expect((await scene.get(orderId)).version).toBe(2);
  });

  it('voids the payment of a confirmed order that is cancelled', async () => {
    const orderId = await scene.place('cust_regret');
    await scene.ends(orderId, 'CONFIRMED');
    const { paymentId } = (await scene.get(orderId)).payment;
    expect((await scene.cancel(orderId)).body.payment).toEqual({ paymentId, status: 'AUTHORIZED' });
    await until('the void', async () => (await scene.get(orderId)).payment?.status === 'VOIDED');
    expect(await payments.of(orderId)).toMatchObject([{ paymentId, status: 'VOIDED' }]);
    expect((await scene.get(orderId)).version).toBe(4);
    expect((await scene.eventsOf(orderId)).map(({ type }) => type)).toEqual([
      'order.created',
      'order.confirmed',
      'order.cancelled',
    ]);
  });

  it('is cancelled and its payment voided when the cancellation comes while the payment API is thinking', async () => {
    const orderId = await scene.place('cust_slow');
    await until('the charge', async () => (await payments.of(orderId)).length === 1);
    expect((await scene.cancel(orderId)).body).toMatchObject({ status: 'CANCELLED', version: 2 });
    await until('the void', async () => (await scene.get(orderId)).payment?.status === 'VOIDED');
    expect(await payments.of(orderId)).toMatchObject([{ status: 'VOIDED' }]);
    expect((await scene.get(orderId)).status).toBe('CANCELLED');
  });

  it('is carried on when the runner of its job has lost the connection that says that it lives', async () => {
    const orderId = await scene.place('cust_slow');
    await until('the charge', async () => (await payments.of(orderId)).length === 1);
    const lost = await scene.service.database.query(
      `SELECT pg_terminate_backend(pid) FROM pg_locks
       WHERE locktype = 'advisory' AND classid = 1297041905
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    expect(lost).toHaveLength(1);
    await scene.ends(orderId, 'CONFIRMED');
    expect(await payments.of(orderId)).toHaveLength(1);
    const jobs = async () => (await scene.orders('/health/ready')).body.details.jobs.status;
    await until('another runner', async () => (await jobs()) === 'up');
  });

  it('continues the trace and the request id of the order', async () => {
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
    const { body } = await scene.orders('/v1/orders', {
      body: anOrder(),
      headers: { traceparent, 'x-request-id': 'the-request' },
    });
    await scene.ends(body.orderId, 'CONFIRMED');
    const rows = await scene.service.database.query<{ traceparent: string; request_id: string }>(
      'SELECT traceparent, request_id FROM outbox WHERE aggregateid = $1',
      [body.orderId],
    );
    expect(rows).toHaveLength(2);
    for (const row of rows) {
      expect(row.request_id).toBe('the-request');
      expect(row.traceparent).toMatch(/^00-4bf92f3577b34da6a3ce929d0e0e4736-(?!00f067aa0ba902b7)[0-9a-f]{16}-01$/);
    }
  });

  it('parks an event that fails for good, and others go on', async () => {
    const { database } = scene.service;
    await database.query(
      `INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence)
       VALUES (gen_random_uuid(), 'order', 'ord_00000000000000000000000000', 'order.created', '{}', 1)`,
    );
    const orderId = await scene.place('cust_behind');
    await scene.ends(orderId, 'CONFIRMED');
    const parked = await until('the parking', async () => {
      const rows = await database.query<{ aggregateid: string; reason: string }>('SELECT * FROM outbox_parked');
      return rows.length > 0 && rows;
    });
    expect(parked).toMatchObject([
      { aggregateid: 'ord_00000000000000000000000000', reason: expect.stringContaining('foreign key') },
    ]);
    await database.query('DELETE FROM outbox WHERE aggregateid = $1', [parked[0]?.aggregateid]);
    await database.query('DELETE FROM outbox_parked');
  });
});

describe('Jobs that wait', () => {
  it('are told of by the age of the oldest that is due', async () => {
    const scene = await ownScene();
    const age = () => scene.metric('jobs_oldest_age_seconds');
    const add = (runAt: string) =>
      scene.service.database.query(`SELECT graphile_worker.add_job('nobody-runs-this', run_at := ${runAt})`);
    await add(`now() + interval '1 day'`);
    await add(`now() - interval '1 hour'`);
    await until('the age', async () => (await age()) >= 3_600);
    await scene.service.database.query(
      `DELETE FROM graphile_worker._private_jobs WHERE run_at < now() - interval '1 hour'`,
    );
    await until('it to be gone', async () => (await age()) < 3_600);
  });
});

describe('Orders of which no worker has taken note', () => {
  it('are told of by the age of the oldest, whosever it is, until it ends', async () => {
    const scene = await ownScene();
    const ages = async () => {
      await scene.service.app.get(PendingOrders, { strict: false }).measure();
      const { text } = await scene.orders('/metrics');
      const lines = text.matchAll(/^orders_pending_oldest_age_seconds\{payment="(\w+)"\} (.+)$/gm);
      return Object.fromEntries([...lines].map(([, payment, age]) => [payment, Math.floor(Number(age) / HOUR)]));
    };
    expect(await ages()).toEqual({ due: 0, none: 0 });
    await strand(scene, 'another', 9, 'CONFIRMED');
    await strand(scene, 'a-third', 1);
    const due = await strand(scene, 'the-last', 5);
    await scene.service.database.query('INSERT INTO payments (order_id) VALUES ($1)', [due]);
    await strand(scene, 'acme', 8, 'CONFIRMED');
    const oldest = await strand(scene, 'acme', 3);
    await strand(scene, 'acme', 2);
    expect(await ages()).toEqual({ due: 5, none: 3 });
    expect((await scene.cancel(fromUUID(oldest, 'ord'))).status).toBe(200);
    expect(await ages()).toEqual({ due: 5, none: 2 });
    await scene.service.database.query("UPDATE orders SET status = 'CANCELLED' WHERE status = 'PENDING'");
    expect(await ages()).toEqual({ due: 0, none: 0 });
    // What cannot be measured is not 0.
    await scene.service.database.query('ALTER TABLE payments RENAME TO hidden');
    expect(await ages()).toEqual({});
  });

  it('are brought on by what the runbook says', async () => {
    const scene = await ownScene();
    const { database } = scene.service;
    const runbook = readFileSync('docs/runbooks/orders-pending.md', 'utf8');
    const [look = '', publish = '', enqueue = '', voidAnew = ''] = [...runbook.matchAll(/```sql\n(.*?)```/gs)].map(
      ([, sql]) => sql,
    );
    const deleted = await strand(scene, 'acme', 3);
    const published = await strand(scene, 'acme', 2);
    const [deletedId, publishedId] = [fromUUID(deleted, 'ord'), fromUUID(published, 'ord')];
    await database.query(
      `INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence, published_at)
       VALUES (gen_random_uuid(), 'order', $1, 'order.created', '{}', 1, now())`,
      [publishedId],
    );
    const [create = '', find = ''] = look.split(/;\n\n/);
    await database.query(create);
    expect(await database.query(find)).toMatchObject([
      { id: deleted, order_id: deletedId, tenant_id: 'acme', event: 'deleted' },
      { id: published, order_id: publishedId, tenant_id: 'acme', event: 'published' },
    ]);
    await database.query(publish.replace('ord_…', publishedId));
    for (let time = 1; time <= 2; time += 1) await database.query(enqueue.replace('…', deleted));
    for (const orderId of [deletedId, publishedId]) {
      await scene.ends(orderId, 'CONFIRMED');
      expect(await payments.of(orderId)).toHaveLength(1);
    }
    expect(await database.query(find)).toEqual([]);

    // A cancellation whose event is lost.
    const toVoid = async () => {
      await scene.service.app.get(PendingOrders, { strict: false }).measure();
      return Math.round((await metric(scene.service.url, 'payments_to_void_oldest_age_seconds')) / HOUR);
    };
    const lost = await scene.place('cust_123');
    await scene.ends(lost, 'CONFIRMED');
    expect(await toVoid()).toBe(0);
    const uuid = toOrderUuid(lost);
    await database.query(
      `UPDATE orders SET status = 'CANCELLED', version = version + 1, updated_at = now() - interval '7 hours'
       WHERE id = $1`,
      [uuid],
    );
    expect(await toVoid()).toBe(7);
    await database.query(voidAnew);
    await until('the payment to be voided', async () => (await payments.of(lost))[0]?.status === 'VOIDED');
    await until('that to be noted', async () => (await toVoid()) === 0);
    // What cannot be measured is not 0, and keeps nothing else from being measured.
    await database.query('ALTER TABLE orders RENAME COLUMN payment_status TO hidden');
    await scene.service.app.get(PendingOrders, { strict: false }).measure();
    const { text } = await scene.orders('/metrics');
    expect(text).not.toMatch(/^payments_to_void_oldest_age_seconds /m);
    expect(text).toMatch(/^orders_pending_oldest_age_seconds\{payment="none"\} /m);
  });
});

describe('A cancellation that races with the payment', () => {
  it('ends cancelled with the payment voided, or refused, in 200 races', async () => {
    const scene = await ownScene();
    const race = async (n: number) => {
      const orderId = await scene.place(n % 4 < 2 && n % 3 === 0 ? 'cust_declined' : `cust_race_${n}`);
      // Some at any time, the others in the very moment in which the payment is made.
      if (n % 2 === 0) await delay(Math.random() * 400);
      else await until('the payment', async () => (await payments.of(orderId)).length > 0);
      const { status, body } = await until('an answer', async () => {
        const answer = await scene.cancel(orderId);
        return answer.status < 500 && answer;
      });
      return { orderId, status, code: body.error?.code };
    };
    const answers: Awaited<ReturnType<typeof race>>[] = [];
    // Not all at once: clients, payment API and service are one process, which would do little but look for payments.
    for (let first = 0; first < 200; first += 20) {
      answers.push(...(await Promise.all(Array.from({ length: 20 }, (_, n) => race(first + n)))));
    }
    await until('the end of all jobs', async () => {
      const waiting =
        'SELECT FROM graphile_worker._private_jobs UNION ALL SELECT FROM outbox WHERE published_at IS NULL';
      return (await scene.service.database.query(waiting)).length === 0;
    });

    const ends = { voided: 0, neverCharged: 0, refused: 0, declined: 0 };
    for (const { orderId, status, code } of answers) {
      const order = await scene.get(orderId);
      const held = await payments.of(orderId);
      const types = (await scene.eventsOf(orderId)).map(({ type, sequence }) => `${sequence} ${type}`);
      expect(held.length).toBeLessThanOrEqual(1);
      expect(order.payment?.status).toBe(held[0]?.status);
      if (status === 200) {
        expect(order.status).toBe('CANCELLED');
        expect(held[0]?.status).not.toBe('AUTHORIZED');
        expect(types.at(-1)).toMatch(/^[23] order\.cancelled$/);
        if (held.length === 0) ends.neverCharged += 1;
        else if (held[0]?.status === 'VOIDED') ends.voided += 1;
        else ends.declined += 1;
      } else {
        expect([status, code, order.status]).toEqual([409, 'ORDER_STATUS_CONFLICT', 'REJECTED']);
        expect(held[0]?.status).toBe('DECLINED');
        expect(types).toEqual(['1 order.created', '2 order.rejected']);
        ends.refused += 1;
      }
    }
    expect(answers).toHaveLength(200);
    // Else it was no race.
    expect(ends.voided).toBeGreaterThan(0);
  });
});

describe('A payment API that is away', () => {
  it('costs no order and no attempt while the circuit is open; all end CONFIRMED with one charge each', async () => {
    const OPEN_MS = 1_000;
    const scene = await ownScene({ PAYMENT_API_BREAKER_OPEN_MS: String(OPEN_MS) });
    const time = async () => {
      const start = performance.now();
      await scene.place('cust_before');
      return performance.now() - start;
    };
    const usual = Math.max(...(await Promise.all(Array.from({ length: 10 }, time))));
    await payments.goAway();
    const placed: string[] = [];
    const durations: number[] = [];
    for (let n = 0; n < 100; n += 1) {
      const start = performance.now();
      placed.push(await scene.place(`cust_away_${n}`));
      durations.push(performance.now() - start);
    }
    await until('the open circuit', async () => (await scene.metric('circuit_breaker_state{name="payment"}')) === 2);
    // Not during a probe, which decides whether it is to be open.
    const status = async () => (await scene.orders('/health/ready')).body.details['payment-api'].status as string;
    await until('the degradation', async () => (await status()) === 'degraded');
    const attempted = async () => {
      const [row] = await scene.service.database.query<{ attempts: number }>(
        'SELECT sum(attempts)::int AS attempts FROM payments',
      );
      return row?.attempts ?? NaN;
    };
    const since = performance.now();
    const opened = await attempted();
    await delay(5 * OPEN_MS);
    // Each probe is an attempt of one order: one in OPEN_MS, and no others.
    const probes = (await attempted()) - opened;
    expect(probes).toBeLessThanOrEqual(1 + (performance.now() - since) / OPEN_MS);
    for (const orderId of placed.slice(0, 5)) expect((await scene.get(orderId)).status).toBe('PENDING');
    const regretted = placed.splice(50, 25);
    for (const orderId of regretted) expect((await scene.cancel(orderId)).status).toBe(200);

    await payments.comeBack();
    for (const orderId of placed) await scene.ends(orderId, 'CONFIRMED');
    for (const orderId of placed) expect(await payments.of(orderId)).toHaveLength(1);
    const charged = (await Promise.all(regretted.map((orderId) => payments.of(orderId)))).flat();
    await until('the voids', async () => {
      const held = (await Promise.all(regretted.map((orderId) => payments.of(orderId)))).flat();
      return held.every(({ status }) => status === 'VOIDED');
    });
    // Only those that somebody may have asked for in vain are asked for again.
    expect(charged.length).toBeLessThanOrEqual(20);
    expect(await scene.metric('circuit_breaker_state{name="payment"}')).toBe(0);
    const median = durations.sort((a, b) => a - b)[50] ?? NaN;
    expect(median).toBeLessThan(Math.max(100, 2 * usual));
  });
});

describe('PAYMENT_GIVE_UP_HOURS', () => {
  it('rejects an order whose payment stays unknown, and voids an authorisation that is learnt of later', async () => {
    const scene = await ownScene({ PAYMENT_GIVE_UP_HOURS: '0.001', PAYMENT_API_ATTEMPT_TIMEOUT_MS: '1000' });
    const slow = await scene.place('cust_slow');
    const down = await scene.place('cust_down');
    for (const orderId of [slow, down]) {
      await scene.ends(orderId, 'REJECTED');
      expect((await scene.eventsOf(orderId))[1]).toMatchObject({
        type: 'order.rejected',
        payload: { reason: 'payment_unknown', status: 'REJECTED' },
      });
    }
    await until('the void', async () => (await scene.get(slow)).payment?.status === 'VOIDED');
    expect(await payments.of(slow)).toMatchObject([{ status: 'VOIDED' }]);
    expect(await scene.get(slow)).toMatchObject({ status: 'REJECTED', reason: 'payment_unknown', version: 4 });
    expect(await scene.eventsOf(slow)).toHaveLength(2);
  });

  it('has no payment asked for whose time was up before it could be asked for', async () => {
    const scene = await ownScene();
    const { database } = scene.service;
    const uuid = await strand(scene, 'acme', 26);
    const orderId = fromUUID(uuid, 'ord');
    await database.query("INSERT INTO payments (order_id, created_at) VALUES ($1, now() - interval '25 hours')", [
      uuid,
    ]);
    const job = [JSON.stringify({ orderId })];
    await database.query("SELECT graphile_worker.add_job('process-payment', $1::text::json)", job);
    await scene.ends(orderId, 'REJECTED');
    await until('the end of its job', async () => {
      const text = "SELECT FROM graphile_worker._private_jobs WHERE payload ->> 'orderId' = $1";
      return (await database.query(text, [orderId])).length === 0;
    });
    expect(await payments.of(orderId)).toEqual([]);
  });
});

describe('PAYMENT_API_TOKEN_URL', () => {
  let guarded: RunningServer | undefined;
  afterEach(() => guarded?.stop());

  it('has the payment API called with a token of its own', async () => {
    const { issuer } = pieces();
    const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));
    const callers: unknown[] = [];
    const server = createServer((req, res) => {
      const given = req.headers.authorization?.replace(/^Bearer /, '') ?? '';
      jwtVerify(given, keys, { issuer, audience: AUDIENCE }).then(
        ({ payload }) => {
          callers.push([payload['client_id'], payload['scope']]);
          res.writeHead(201).end('{"paymentId":"pay_1","status":"AUTHORIZED"}');
        },
        () => res.writeHead(401).end(),
      );
    });
    guarded = await listen(server, 0);
    const scene = await ownScene({
      PAYMENT_API_URL: guarded.url,
      PAYMENT_API_TOKEN_URL: `${issuer}/token`,
      PAYMENT_API_CLIENT_ID: 'reporting',
      PAYMENT_API_CLIENT_SECRET: CLIENT_SECRET,
      PAYMENT_API_SCOPE: 'orders:read',
      PAYMENT_API_ATTEMPT_TIMEOUT_MS: '60000',
      PAYMENT_API_DEADLINE_MS: '60000',
    });
    await scene.ends(await scene.place('cust_123'), 'CONFIRMED');
    expect(callers).toEqual([['reporting', 'orders:read']]);
  });
});
