import { randomUUID } from 'node:crypto';
import { AuditVerifier } from '@platform/audit';
import { openDirectConnection } from '@platform/database';
import { deadLetterTopicOf, KafkaDeadLetters } from '@platform/kafka';
import { Client } from 'pg';
import { ORDERS_TOPIC } from '../../apps/order-service/src/orders-topic';
import { pseudonymOf } from '../../apps/order-service/src/privacy/pseudonym';
import { type Answer, anOrder, type Api, api, apiOnce, fetchToken, metric } from '../support/client';
import { untilLockIsAwaited } from '../support/lock-wait';
import { openLetters } from '../support/open-letters';
import { pieces } from '../support/pieces';
import { untilSealed } from '../support/sealed';
import { startService, type TestService } from '../support/service';
import { describeWithKafka, Topic } from '../support/topic';
import { until } from '../support/until';

const aCustomer = () => `cust_${randomUUID()}`;

async function clientsOf(service: TestService) {
  const [orders, foreign, compliance] = await Promise.all(
    ['order-orchestrator', 'other-tenant', 'compliance'].map(async (id) => api(service.url, await fetchToken(id))),
  );
  return { orders, foreign, compliance } as Record<'orders' | 'foreign' | 'compliance', Api>;
}

const erase = (client: Api, customerId: string) =>
  client(`/v1/customers/${encodeURIComponent(customerId)}/erasure`, { method: 'POST' });

/** Every row of every table, as text: what a dump holds. */
async function dump(service: TestService): Promise<string> {
  const tables = await service.database.query<{ name: string }>(
    `SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) AS name FROM information_schema.tables
     WHERE table_schema IN ('public', 'graphile_worker') AND table_type = 'BASE TABLE'`,
  );
  expect(tables.length).toBeGreaterThan(10);
  const rows = await Promise.all(
    tables.map(({ name }) => service.database.query<{ row: string }>(`SELECT t::text AS row FROM ${name} AS t`)),
  );
  return rows.flatMap((all) => all.map(({ row }) => row)).join('\n');
}

/** Not in any form in which PostgreSQL shows it: as text, or in the hex of a bytea. */
function expectAbsent(text: string, id: string): void {
  expect(text).not.toContain(id);
  expect(text).not.toContain(Buffer.from(id).toString('hex'));
}

describe('POST /v1/customers/{customerId}/erasure', () => {
  let service: TestService;
  let orders: Api;
  let foreign: Api;
  let compliance: Api;

  beforeAll(async () => {
    service = await startService({ ROLES: 'api,worker' });
    ({ orders, foreign, compliance } = await clientsOf(service));
  });
  afterAll(() => service.stop());

  /** With its job, which would ask for a payment that a test undoes. */
  const ended = async ({ body: { orderId } }: Answer, client = orders) => {
    const order = await until('the payment', async () => {
      const answer = await client(`/v1/orders/${orderId}`);
      return answer.body.status !== 'PENDING' && answer;
    });
    const job = "SELECT FROM graphile_worker._private_jobs WHERE payload ->> 'orderId' = $1";
    await until('the end of the job', async () => (await service.database.query(job, [orderId])).length === 0);
    return order;
  };

  it('leaves the customer nowhere in the database', async () => {
    const customerId = aCustomer();
    const order = () =>
      anOrder({ customerId, idempotencyKey: `${customerId}-${randomUUID()}`, metadata: { customerId } });
    const bodies = [order(), order(), order()];
    const created = [];
    for (const body of bodies) created.push(await orders('/v1/orders', { body }));
    for (const answer of created) await ended(answer);
    const [cancelled] = created as [Answer];
    const reason = `asked for by ${customerId}`;
    await orders(`/v1/orders/${cancelled.body.orderId}/cancel`, { body: { reason } });
    expect((await orders(`/v1/orders/${cancelled.body.orderId}`)).body.reason).toBe(reason);
    await orders('/v1/orders', { body: { ...bodies[1], totalAmount: { currency: 'USD', value: '1.00' } } });
    expect(await dump(service)).toContain(customerId);

    const { status, body } = await erase(compliance, customerId);
    expect([status, body]).toEqual([
      200,
      {
        customerId,
        pseudonym: expect.stringMatching(/^erased_[0-9a-f]{32}$/),
        ordersErased: 3,
        erasedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      },
    ]);
    expectAbsent(await dump(service), customerId);

    for (const [index, { body: receipt }] of created.entries()) {
      const seen = (await orders(`/v1/orders/${receipt.orderId}`)).body;
      expect(seen).toMatchObject({ customerId: body.pseudonym, items: bodies[index]?.items });
      expect(seen).not.toHaveProperty('metadata');
      expect(seen).not.toHaveProperty('reason');
    }
    expect((await orders(`/v1/orders?customerId=${customerId}`)).body.data).toEqual([]);
    expect((await orders(`/v1/orders?customerId=${body.pseudonym}`)).body.data).toHaveLength(3);

    // A client that never got its answer asks again: nothing new is made, and nothing comes back that was erased.
    const again = await orders('/v1/orders', { body: bodies[2] });
    expect([again.text, again.headers.get('idempotent-replayed')]).toEqual([created[2]?.text, 'true']);
    expect((await orders('/v1/orders', { body: { ...bodies[2], customerId: 'cust_other' } })).status).toBe(409);
    expectAbsent(await dump(service), customerId);
  });

  it('keeps the same customer of another tenant, and other customers', async () => {
    const customerId = aCustomer();
    const theirs = await foreign('/v1/orders', { body: anOrder({ customerId }) });
    const other = await orders('/v1/orders', { body: anOrder({ customerId: `${customerId}-2` }) });
    await ended(other);
    const { body } = await erase(compliance, customerId);
    expect(body.ordersErased).toBe(0);
    expect((await foreign(`/v1/orders/${theirs.body.orderId}`)).body.customerId).toBe(customerId);
    expect((await orders(`/v1/orders/${other.body.orderId}`)).body).toMatchObject({
      customerId: `${customerId}-2`,
      metadata: { sourceSystem: 'order-orchestrator' },
    });
  });

  it('is not done for a request with a field that it does not know', async () => {
    const customerId = aCustomer();
    await orders('/v1/orders', { body: anOrder({ customerId }) });
    const path = `/v1/customers/${customerId}/erasure`;
    const { status, body } = await compliance(path, { body: { dryRun: true } });
    expect([status, body.error.code, body.error.details[0].field]).toEqual([400, 'VALIDATION_FAILED', 'dryRun']);
    const inQuery = await compliance(`${path}?dryRun=true`, { body: {} });
    expect([inQuery.status, inQuery.body.error.details]).toEqual([
      400,
      [{ field: 'dryRun', message: 'property dryRun should not exist' }],
    ]);
    for (const other of ['[]', '5', '"dryRun"', 'true'])
      expect((await compliance(path, { method: 'POST', body: other })).body.error.details).toEqual([
        { field: '', message: 'must be a JSON object' },
      ]);
    expect((await orders(`/v1/orders?customerId=${customerId}`)).body.data).toHaveLength(1);
    expect((await compliance(path, { body: {} })).body.ordersErased).toBe(1);
  });

  it('changes the ETag, and leaves the order what else it was', async () => {
    const customerId = aCustomer();
    const created = await orders('/v1/orders', { body: anOrder({ customerId }) });
    const before = await ended(created);
    const { erasedAt } = (await erase(compliance, customerId)).body;
    const after = await orders(`/v1/orders/${created.body.orderId}`);
    expect(after.headers.get('etag')).not.toBe(before.headers.get('etag'));
    expect(after.body.updatedAt).toBe(erasedAt);
    const { customerId: _, metadata, version, updatedAt, ...kept } = before.body;
    expect([metadata, version, updatedAt]).not.toContain(undefined);
    expect(after.body).toMatchObject(kept);
  });

  it('leaves no event of theirs as it was which the relay marks meanwhile', async () => {
    await service.database.query(`
      INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence, published_at)
      SELECT gen_random_uuid(), 'test', 'another ' || n, 'test.told', '{}', 1, now() FROM generate_series(1, 10000) AS n`);
    await service.database.query('ANALYZE outbox');
    const relay = new Client(service.database.superuserUrl);
    await relay.connect();
    for (let round = 1; round <= 5; round += 1) {
      const customerId = aCustomer();
      const created = [];
      for (let n = 1; n <= 3; n += 1) created.push(await orders('/v1/orders', { body: anOrder({ customerId }) }));
      await Promise.all(created.map((answer) => ended(answer)));
      await relay.query('BEGIN');
      await relay.query('UPDATE outbox SET published_at = now() WHERE aggregateid = $1', [created[1]?.body.orderId]);
      const erasure = erase(compliance, customerId);
      await untilLockIsAwaited(service.database, '%WITH theirs AS%');
      await relay.query('COMMIT');
      expect((await erasure).status).toBe(200);
      expectAbsent(await dump(service), customerId);
    }
    await relay.end();
  });

  it('lets few wait for their turn, and has the others try again', async () => {
    const held = new Client(service.database.superuserUrl);
    await held.connect();
    const customers = Array.from({ length: 20 }, aCustomer);
    const once = apiOnce(service.url, await fetchToken('compliance'));
    await held.query('BEGIN');
    await held.query('LOCK TABLE erasures');
    let refusals = 0; // until the lock is given nobody else hears anything, for two seconds
    const erasures = customers.map(async (customerId) => {
      const answer = await erase(once, customerId);
      refusals += 1;
      return answer;
    });
    await until('ten refusals', () => refusals === 10);
    await held.end();
    const answers = await Promise.all(erasures);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(10);
    const refused = answers.filter(({ status }) => status === 503);
    expect(refused).toHaveLength(10);
    expect(refused[0]?.headers.get('retry-after')).toBe('1');
  });

  it('tells of itself, each time by the next event of the pseudonym, and stands in the audit trail', async () => {
    const customerId = aCustomer();
    const first = await erase(compliance, customerId);
    const second = await erase(compliance, customerId);
    expect(second.body.pseudonym).toBe(first.body.pseudonym);
    const events = await service.database.query(
      `SELECT type, aggregatetype, sequence, payload, request_id FROM outbox WHERE aggregateid = $1 ORDER BY position`,
      [first.body.pseudonym],
    );
    expect(events).toEqual(
      [first, second].map(({ body, headers }, index) => ({
        type: 'customer.erased',
        aggregatetype: 'order',
        sequence: index + 1,
        payload: { customerId: body.pseudonym, orderIds: [], ordersErased: 0, erasedAt: body.erasedAt },
        request_id: headers.get('x-request-id'),
      })),
    );
    const { body } = await compliance('/v1/audit-events?action=customer.erase&limit=2');
    expect(
      body.data.map(({ object, clientId, outcome }: Record<string, string>) => [object, clientId, outcome]),
    ).toEqual(Array(2).fill([first.body.pseudonym, 'compliance', 'succeeded']));
  });

  it('has the dead letters looked through a day later too, for events that were still on their way', async () => {
    const { body } = await erase(compliance, aCustomer());
    const jobs = await service.database.query(
      `SELECT FROM graphile_worker._private_jobs
       WHERE payload ->> 'pseudonym' = $1 AND run_at > now() + interval '23 hours'`,
      [body.pseudonym],
    );
    expect(jobs).toHaveLength(1);
  });

  it('leaves no job behind that looks for dead letters where there is no Kafka, and so none', async () => {
    const customerId = aCustomer();
    await ended(await orders('/v1/orders', { body: anOrder({ customerId }) }));
    const { body } = await erase(compliance, customerId);
    expect(body.ordersErased).toBe(1);
    await until('the end of the job', async () => {
      const job = `SELECT FROM graphile_worker._private_jobs
        WHERE payload ->> 'pseudonym' = $1 AND run_at < now() + interval '1 hour'`;
      return (await service.database.query(job, [body.pseudonym])).length === 0;
    });
  });

  it('tells which orders were the customer’s, part by part where there are many', async () => {
    const customerId = aCustomer();
    const receipt = await orders('/v1/orders', { body: anOrder({ customerId }) });
    await ended(receipt);
    const [named] = await service.database.query<{ columns: string }>(
      `SELECT string_agg(column_name, ', ') AS columns FROM information_schema.columns
       WHERE table_name = 'orders' AND is_generated = 'NEVER' AND column_name <> 'id'`,
    );
    await service.database.query(
      `INSERT INTO orders (id, ${named?.columns}) SELECT gen_random_uuid(), ${named?.columns}
       FROM orders, generate_series(1, 5000) WHERE customer_id = $1`,
      [customerId],
    );
    const { body } = await erase(compliance, customerId);
    const events = await service.database.query<{ sequence: number; payload: Record<string, unknown> }>(
      'SELECT sequence, payload FROM outbox WHERE aggregateid = $1 ORDER BY position',
      [body.pseudonym],
    );
    expect(events.map(({ sequence, payload: { orderIds, ...rest } }) => [sequence, rest])).toEqual(
      [5_000, 1].map((ordersErased, part) => [
        part + 1,
        { customerId: body.pseudonym, ordersErased, erasedAt: body.erasedAt },
      ]),
    );
    expect(body.ordersErased).toBe(5_001);
    const trail = await compliance('/v1/audit-events?action=customer.erase&limit=2');
    expect(trail.body.data.map(({ object }: { object: string }) => object)).toEqual(Array(2).fill(body.pseudonym));
    const told = events.flatMap(({ payload }) => payload['orderIds'] as string[]);
    expect(new Set(told).size).toBe(5_001);
    expect(told).toContain(receipt.body.orderId);

    // Two at once share the work, and neither says that it is done while it is not.
    await service.database.query('UPDATE orders SET customer_id = $2 WHERE customer_id = $1', [
      body.pseudonym,
      customerId,
    ]);
    const both = await Promise.all(
      [1, 2].map(async () => {
        const answer = await erase(compliance, customerId);
        const left = await service.database.query('SELECT FROM orders WHERE customer_id = $1', [customerId]);
        expect([answer.status, left.length]).toEqual([200, 0]);
        return answer.body.ordersErased as number;
      }),
    );
    expect(both.reduce((sum, count) => sum + count)).toBe(5_001);

    // Of a part that waits for retention some are deleted; the others are erased all the same.
    await service.database.query('UPDATE orders SET customer_id = $2 WHERE customer_id = $1', [
      body.pseudonym,
      customerId,
    ]);
    const retention = new Client(service.database.superuserUrl);
    await retention.connect();
    const first = `SELECT id FROM orders WHERE tenant_id = 'acme' AND customer_id = $1 LIMIT 1`;
    await retention.query('BEGIN');
    await retention.query(`DELETE FROM orders WHERE id = (${first})`, [customerId]);
    const erasure = erase(compliance, customerId);
    await untilLockIsAwaited(service.database, '%UPDATE orders SET customer_id%');
    await retention.query('COMMIT');
    await retention.end();
    expect((await erasure).body.ordersErased).toBe(5_000);
    expect(await service.database.query('SELECT FROM orders WHERE customer_id = $1', [customerId])).toHaveLength(0);
    await service.database.query('DELETE FROM orders WHERE customer_id = $1', [body.pseudonym]);
  });

  it('leaves an audit trail that still verifies', async () => {
    await untilSealed(service.database);
    const client = await openDirectConnection(service.config, 'test', 10_000);
    const verdict = await new AuditVerifier(client, service.config.auditKeys ?? [], 0).verify();
    await client.end();
    expect(verdict).toMatchObject({ unsealed: 0, faults: [] });
  });

  it('is refused while the payment API has not said what became of a payment, and erases nothing then', async () => {
    const customerId = 'cust_down';
    const { orderId } = (await orders('/v1/orders', { body: anOrder({ customerId }) })).body;
    await until('the payment to be asked for', async () => {
      const asked = `SELECT FROM payments JOIN orders ON orders.id = order_id
        WHERE customer_id = $1 AND asked_at IS NOT NULL AND attempts > 0`;
      return (await service.database.query(asked, [customerId])).length > 0;
    });
    const { status, body } = await erase(compliance, customerId);
    expect([status, body.error.code]).toEqual([409, 'ORDER_STATUS_CONFLICT']);
    expect((await orders(`/v1/orders/${orderId}`)).body.customerId).toBe(customerId);
  });

  it('is refused too where a payment is asked for just before the order is locked', async () => {
    const customerId = aCustomer();
    await ended(await orders('/v1/orders', { body: anOrder({ customerId }) }));
    // As before it was paid.
    const [order] = await service.database.query<{ id: string }>(
      `UPDATE orders SET status = 'PENDING', payment_id = NULL, payment_status = NULL WHERE customer_id = $1 RETURNING id`,
      [customerId],
    );
    await service.database.query('DELETE FROM payments WHERE order_id = $1', [order?.id]);
    const payer = new Client(service.database.superuserUrl);
    await payer.connect();
    await payer.query('BEGIN');
    await payer.query('SELECT FROM orders WHERE id = $1 FOR NO KEY UPDATE', [order?.id]);
    await payer.query('INSERT INTO payments (order_id, asked_at) VALUES ($1, now())', [order?.id]);
    const erasure = erase(compliance, customerId);
    await untilLockIsAwaited(service.database, '%UPDATE orders SET customer_id%');
    await payer.query('COMMIT');
    await payer.end();
    expect((await erasure).status).toBe(409);
    const kept = await service.database.query('SELECT FROM orders WHERE customer_id = $1', [customerId]);
    expect(kept).toHaveLength(1);
  });

  describe('where nobody knows what became of a payment', () => {
    const losePayment = async (client: Api, customerId: string, status: string) => {
      await ended(await client('/v1/orders', { body: anOrder({ customerId }) }), client);
      await service.database.query(
        'UPDATE orders SET status = $2, payment_id = NULL, payment_status = NULL WHERE customer_id = $1',
        [customerId, status],
      );
    };

    it('is refused, also when the order was cancelled', async () => {
      const customerId = aCustomer();
      await losePayment(orders, customerId, 'CANCELLED');
      const { status, body } = await erase(compliance, customerId);
      expect([status, body.error.code]).toEqual([409, 'ORDER_STATUS_CONFLICT']);
    });

    it('is done where the payment was never asked for', async () => {
      const customerId = aCustomer();
      await losePayment(orders, customerId, 'CANCELLED');
      await service.database.query(
        'UPDATE payments SET asked_at = NULL FROM orders WHERE order_id = orders.id AND customer_id = $1',
        [customerId],
      );
      const { status, body } = await erase(compliance, customerId);
      expect([status, body.ordersErased]).toEqual([200, 1]);
    });

    it('does not mind when it is of another tenant', async () => {
      const customerId = aCustomer();
      await losePayment(foreign, customerId, 'PENDING');
      await ended(await orders('/v1/orders', { body: anOrder({ customerId }) }));
      const { status, body } = await erase(compliance, customerId);
      expect([status, body.ordersErased]).toEqual([200, 1]);
    });
  });

  it('waits for no lock for long, and has the client try again', async () => {
    const customerId = aCustomer();
    await ended(await orders('/v1/orders', { body: anOrder({ customerId }) }));
    const once = apiOnce(service.url, await fetchToken('compliance'));
    const holder = new Client(service.database.superuserUrl);
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM orders WHERE customer_id = $1 FOR UPDATE', [customerId]);
    const start = performance.now();
    const { status, headers, body } = await erase(once, customerId);
    const waitedMs = performance.now() - start;
    await holder.end();
    expect([status, body.error.code, headers.get('retry-after')]).toEqual([503, 'SERVICE_UNAVAILABLE', '1']);
    expect(waitedMs).toBeLessThan(10_000); // two seconds, on a machine with nothing else to do
    expect((await erase(compliance, customerId)).body.ordersErased).toBe(1);
  });

  it.each([
    ['is tried again', 1, [200, 1, 3]], // the last finds that nothing is left
    ['leaves it to the client to try again', 5, [503, undefined, 5]],
  ])('%s where it was chosen to end a deadlock %i times', async (_, times, expected) => {
    const customerId = aCustomer();
    await ended(await orders('/v1/orders', { body: anOrder({ customerId }) }));
    await service.database.query(`
      CREATE SEQUENCE attempts;
      CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
      BEGIN
        IF nextval('attempts') <= ${times} THEN RAISE 'deadlock detected' USING ERRCODE = '40P01'; END IF;
        RETURN NEW;
      END $$;
      CREATE TRIGGER deadlock BEFORE INSERT ON erasures FOR EACH ROW EXECUTE FUNCTION deadlock()`);
    const { status, body } = await erase(apiOnce(service.url, await fetchToken('compliance')), customerId);
    const sql = 'SELECT last_value::int AS attempts FROM attempts';
    const [{ attempts } = {}] = await service.database.query<{ attempts?: number }>(sql);
    await service.database.query('DROP FUNCTION deadlock CASCADE; DROP SEQUENCE attempts');
    expect([status, body.ordersErased, attempts]).toEqual(expected);
  });

  it('locks events in the order in which the relay does', async () => {
    const customerId = aCustomer();
    const created = [];
    for (let n = 1; n <= 2; n += 1) created.push(await orders('/v1/orders', { body: anOrder({ customerId }) }));
    await Promise.all(created.map((answer) => ended(answer)));
    const [other, first] = created.map(({ body }) => body.orderId as string).sort();
    // Until then the relay itself holds them for a moment.
    await until('their publication', async () => {
      const left = 'SELECT FROM outbox WHERE aggregateid = ANY($1) AND published_at IS NULL';
      return (await service.database.query(left, [[other, first]])).length === 0;
    });
    // The first by its position alone: whichever way they are found, it is the last.
    await service.database.query(
      `INSERT INTO outbox (position, id, aggregatetype, aggregateid, type, payload, sequence, published_at)
       OVERRIDING SYSTEM VALUE VALUES (-1, gen_random_uuid(), 'order', $1, 'order.test', '{}', 9, now())`,
      [first],
    );
    const holder = new Client(service.database.superuserUrl);
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM outbox WHERE position = -1 FOR UPDATE');
    const erasure = erase(compliance, customerId);
    await untilLockIsAwaited(service.database, '%WITH theirs AS%');
    const free = await service.database.query('SELECT FROM outbox WHERE aggregateid = $1 FOR UPDATE SKIP LOCKED', [
      other,
    ]);
    await holder.end();
    await erasure;
    expect(free).toHaveLength(2);
  });

  it('waits for payments that are answered soon, and none of them is made twice', async () => {
    const customerId = aCustomer();
    const created: Answer[] = await Promise.all(
      Array.from({ length: 20 }, () => orders('/v1/orders', { body: anOrder({ customerId }) })),
    );
    const { status, body } = await erase(compliance, customerId);
    expect([status, body.ordersErased]).toEqual([200, 20]);
    for (const answer of created) expect((await ended(answer)).body.status).toBe('CONFIRMED');
    expectAbsent(await dump(service), customerId);
    const payments = (await api(pieces().paymentApi)('/v1/payments')).body.data as { orderId: string }[];
    for (const { body: receipt } of created) {
      expect(payments.filter(({ orderId }) => orderId === receipt.orderId)).toHaveLength(1);
    }
  });

  it('needs the scope privacy:erase', async () => {
    const { status, body } = await erase(orders, 'cust_123');
    expect([status, body.error.code]).toEqual([403, 'INSUFFICIENT_SCOPE']);
  });

  it.each([
    ['129 characters', 'x'.repeat(129)],
    ['NUL', 'a\0b'],
  ])('refuses an id of %s', async (_, customerId) => {
    const { status, body } = await erase(compliance, customerId);
    expect([status, body.error.code, body.error.details[0].field]).toEqual([400, 'VALIDATION_FAILED', 'customerId']);
  });

  it('takes ids with any characters', async () => {
    const customerId = `Zoë / 100% +&? ${randomUUID()}`;
    await ended(await orders('/v1/orders', { body: anOrder({ customerId }) }));
    const { status, body } = await erase(compliance, customerId);
    expect([status, body.customerId, body.ordersErased]).toEqual([200, customerId, 1]);
  });
});

describeWithKafka('Erasure, with Kafka,', () => {
  const brokers = pieces().kafkaBrokers ?? '';
  let service: TestService;
  let orders: Api;
  let compliance: Api;
  let kafka: NonNullable<TestService['config']['kafka']>;
  let deadLetters: KafkaDeadLetters;

  beforeAll(async () => {
    service = await startService({ ROLES: 'api,worker', KAFKA_BROKERS: brokers });
    ({ orders, compliance } = await clientsOf(service));
    if (!service.config.kafka) throw new Error('The service has no Kafka');
    kafka = service.config.kafka;
    deadLetters = new KafkaDeadLetters(kafka);
  });
  afterAll(async () => {
    await deadLetters.onApplicationShutdown();
    await service.stop();
  });

  const placeAndPay = async (customerId: string) => {
    const { orderId } = (await orders('/v1/orders', { body: anOrder({ customerId }) })).body;
    const isPaid = async () => (await orders(`/v1/orders/${orderId}`)).body.status === 'CONFIRMED';
    await until('the payment', isPaid); // the broker's first group waits for the topic of the groups' offsets
    return orderId as string;
  };
  const letter = (key: string, value: object | string) =>
    deadLetters.send({
      message: {
        key: Buffer.from(key),
        value: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
        headers: { ce_type: 'order.created' },
      },
      topic: ORDERS_TOPIC,
      partition: 0,
      offset: '0',
      consumer: 'test',
      reason: 'test',
      attempts: 5,
    });
  const read = () => openLetters(kafka, deadLetterTopicOf(ORDERS_TOPIC));
  /** The workers of other tests meet the order too, do not know it, and write letters of their own. */
  const ourLetters = async (orderId: string) =>
    (await read()).filter(
      ({ key, headers }) => key?.toString() === orderId && String(headers['dlq-consumer']) === 'test',
    );

  it('takes the customer out of the dead letters, and tells the topic', async () => {
    const customerId = aCustomer();
    const orderId = await placeAndPay(customerId);
    const theirs = { orderId, customerId, items: [], metadata: { customerId } };
    const bystander = randomUUID();
    await letter(orderId, theirs);
    await letter(orderId, `no JSON, about ${customerId}`);
    await letter(bystander, { customerId: bystander });

    const { body } = await erase(compliance, customerId);
    await until('the dead letters to be rewritten', async () => {
      const job = `SELECT FROM graphile_worker._private_jobs
          WHERE payload ->> 'pseudonym' = $1 AND run_at < now() + interval '1 hour'`;
      return (await service.database.query(job, [body.pseudonym])).length === 0;
    });
    const ours = await ourLetters(orderId);
    expect(ours).toHaveLength(1);
    expect(JSON.parse(String(ours[0]?.value))).toEqual({ orderId, customerId: body.pseudonym, items: [] });
    expect(String(ours[0]?.headers['dlq-consumer'])).toBe('test');
    const others = (await read()).filter(({ key }) => key?.toString() === bystander);
    expect(others.map(({ value }) => String(value))).toEqual([JSON.stringify({ customerId: bystander })]);

    const topic = await Topic.read(brokers, deadLetterTopicOf(ORDERS_TOPIC));
    const events = await Topic.read(brokers);
    const event = await until('customer.erased', () => events.about(body.pseudonym)[0]);
    expect(event.headers).toMatchObject({ ce_type: 'customer.erased', ce_subject: body.pseudonym, ce_sequence: '1' });
    expect(event.value).not.toContain(customerId);
    const ourRecords = () => topic.about(orderId).filter(({ headers }) => headers['dlq-consumer'] === 'test');
    await until('the new letter, before which the old ones stood', () => ourRecords().length > 0);
    expect(ourRecords().filter(({ value }) => value.includes(customerId))).toEqual([]);
    await Promise.all([topic.close(), events.close()]);
  });

  it('rewrites dead letters when no other does, and leaves nothing that a client wrote in them', async () => {
    const customerId = aCustomer();
    const orderId = await placeAndPay(customerId);
    const pseudonym = pseudonymOf(service.config.pseudonymKey ?? '', 'acme', customerId);
    const values = [
      { orderId, customerId, items: [], metadata: { customerId }, reason: `asked for by ${customerId}` },
      { orderId, customerId: pseudonym, items: [], metadata: { customerId } },
      { orderId, customerId: pseudonym, items: [], reason: `asked for by ${customerId}` },
    ];
    for (const value of values) await letter(orderId, value);
    const texts = async () => (await ourLetters(orderId)).map(({ value }) => String(value)).sort();

    await service.database.query('SELECT pg_advisory_lock(6021774390518)');
    expect((await erase(compliance, customerId)).body.pseudonym).toBe(pseudonym);
    await until('the job to be put off', async () => {
      const later = `SELECT FROM graphile_worker._private_jobs
        WHERE payload ->> 'pseudonym' = $1 AND run_at BETWEEN now() AND now() + interval '1 minute'`;
      return (await service.database.query(later, [pseudonym])).length > 0;
    });
    expect(await texts()).toEqual(values.map((value) => JSON.stringify(value)).sort());
    await service.database.query('SELECT pg_advisory_unlock(6021774390518)');

    const rewritten = values.map(() => JSON.stringify({ orderId, customerId: pseudonym, items: [] }));
    await until('the rewriting', async () => (await texts()).join() === rewritten.join());
  });

  it('looks through dead letters again when it loses the database, and with it the lock', async () => {
    const customerId = aCustomer();
    const orderId = await placeAndPay(customerId);
    await letter(orderId, { orderId, customerId, items: [] });
    const failed = () => metric(service.url, 'jobs_total{task="erase-dead-letters",outcome="failed"}');
    const before = await failed();
    const { pseudonym } = (await erase(compliance, customerId)).body;
    // It joins a consumer group next, which takes far longer.
    await until('the end of its session', async () => {
      const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'order-service dead letter eraser'
          AND state = 'idle' AND query LIKE 'SELECT id FROM orders%'`;
      return (await service.database.query(end)).length > 0;
    });
    await until('the failure', async () => (await failed()) > before);
    const rewritten = JSON.stringify({ orderId, customerId: pseudonym, items: [] });
    const texts = async () => (await ourLetters(orderId)).map(({ value }) => String(value));
    await until('the rewriting', async () => (await texts()).join() === rewritten);
  });
});
