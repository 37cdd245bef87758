import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { listen, type RunningServer } from '../../apps/sandbox/src/listen';
import { type ServiceProcess, spawnService } from '../support/child';
import { type Answer, anOrder, type Api, api, fetchToken, placeOrder } from '../support/client';
import { createDatabase, type TestDatabase } from '../support/database';
import { until } from '../support/until';

/** Strings that must be seen nowhere but where their owner put them. */
const CANARIES = {
  email: 'canary.person@example.com',
  card: '4111111111111111',
  secret: 'canary-secret-4bf92f3577b34da6',
  key: 'canary-key-of-at-least-32-characters',
};

let database: TestDatabase;
let payments: RunningServer;
let service: ServiceProcess;
let token: string;
let orders: Api;
let compliance: Api;

beforeAll(async () => {
  database = await createDatabase();
  // A payment API that repeats what it was told, in answers that it should not give.
  const server = http.createServer((req, res) => {
    res.writeHead(req.url === '/v1/payments' ? 422 : 500, { 'x-secret': CANARIES.secret });
    res.end(JSON.stringify({ error: CANARIES.email, card: CANARIES.card }));
  });
  payments = await listen(server, 0);
  service = await spawnService({
    DATABASE_URL: database.url,
    LOG_LEVEL: 'trace',
    PAYMENT_API_URL: payments.url,
    OIDC_SHARED_SECRET: `${CANARIES.secret}-${CANARIES.secret}`,
    AUDIT_KEY: CANARIES.key,
    PSEUDONYM_KEY: CANARIES.key,
    // Nobody is there; the attempts to connect are logged.
    REDIS_URL: `redis://user:${CANARIES.secret}@127.0.0.1:1`,
  });
  token = await fetchToken('order-orchestrator');
  orders = api(service.url, token);
  compliance = api(service.url, await fetchToken('compliance'));
});
afterAll(async () => {
  await service?.end();
  await payments?.stop();
  await database?.drop();
});

const { email, card, secret } = CANARIES;
const SECRETIVE = {
  customerId: email,
  items: [{ sku: card, quantity: 1 }],
  metadata: { email, card, secret, nested: [{ secret }] },
};

const CALLS: [string, number, () => Promise<Answer>][] = [
  ['a create', 201, () => orders('/v1/orders', { body: anOrder({ ...SECRETIVE, idempotencyKey: secret }) })],
  ['its replay', 201, () => orders('/v1/orders', { body: anOrder({ ...SECRETIVE, idempotencyKey: secret }) })],
  [
    'its key with another request',
    409,
    () => orders('/v1/orders', { body: anOrder({ ...SECRETIVE, customerId: card, idempotencyKey: secret }) }),
  ],
  ['a key in the header', 400, () => orders('/v1/orders', { body: anOrder(), headers: { 'idempotency-key': email } })],
  [
    'an order with faults',
    400,
    () => orders('/v1/orders', { body: { ...anOrder(), customerId: [email], items: card } }),
  ],
  [
    'an order whose values fit nowhere',
    400,
    () =>
      orders('/v1/orders', {
        body: anOrder({
          totalAmount: { currency: secret, value: card },
          metadata: secret,
          items: [{ sku: { email } }],
        }),
      }),
  ],
  ['what is no JSON', 400, () => orders('/v1/orders', { body: `{"customerId": "${email}", ` })],
  ['what is too large', 413, () => orders('/v1/orders', { body: `"${email.repeat(12_000)}"` })],
  ['an order’s name', 404, () => orders(`/v1/orders/${email}`)],
  ['a path', 404, () => orders(`/v1/${email}/${card}`)],
  ['a broken path', 400, () => orders(`/v1/orders/${email}%zz`)],
  ['a method', 405, () => orders(`/v1/orders?customerId=${email}`, { method: 'PUT', body: { email } })],
  ['a query', 400, () => orders(`/v1/orders?customerId=${email}&status=${secret}&createdAfter=${card}`)],
  ['a cursor', 400, () => orders(`/v1/orders?cursor=${card}`)],
  ['a rubbish token', 401, () => api(service.url, secret)('/v1/orders')],
  ['a forged token', 401, () => api(service.url, `${token.slice(0, -8)}AAAAAAAA`)('/v1/orders')],
  ['another scheme', 401, () => api(service.url)('/v1/orders', { headers: { authorization: `Basic ${secret}` } })],
  ['a missing scope', 403, () => compliance(`/v1/orders?customerId=${email}`)],
  [
    'headers',
    200,
    () =>
      orders('/v1/orders', {
        headers: {
          'x-request-id': `${email} ${secret}`,
          traceparent: `00-${secret}`,
          cookie: `session=${secret}`,
          'user-agent': email,
          'x-api-key': secret,
          referer: `https://${email}`,
          'x-forwarded-for': secret,
          'client-cert': `:${secret}:`,
          'if-none-match': `"${secret}"`,
        },
      }),
  ],
  ['an audit query', 200, () => compliance(`/v1/audit-events?clientId=${email}&action=${secret}&orderId=${card}`)],
  [
    'a cancellation',
    200,
    async () => orders(`/v1/orders/${await anOrderId()}/cancel`, { body: { reason: `for ${email}` } }),
  ],
  [
    'a wrong cancellation',
    400,
    async () => orders(`/v1/orders/${await anOrderId()}/cancel`, { body: { reason: [email] } }),
  ],
  [
    'an order that the database refuses',
    500,
    async () => {
      await database.query(
        `ALTER TABLE orders ADD CONSTRAINT refuse CHECK (customer_id <> 'refused ${card}') NOT VALID`,
      );
      return orders('/v1/orders', { body: anOrder({ ...SECRETIVE, customerId: `refused ${card}` }) });
    },
  ],
  ['an erasure', 200, () => compliance(`/v1/customers/${email}.nobody/erasure`, { method: 'POST' })],
  ['a refused erasure', 403, () => orders(`/v1/customers/${email}/erasure`, { method: 'POST' })],
];

async function anOrderId(): Promise<string> {
  return (await placeOrder(orders, anOrder({ ...SECRETIVE, idempotencyKey: randomUUID() }))).orderId;
}

/** The canaries and the tokens themselves, in any form in which they could be written down. */
function seenIn(text: string): string[] {
  const all = [...Object.values(CANARIES), token, token.split('.')[2] ?? ''];
  return all.filter((canary) =>
    [
      canary,
      encodeURIComponent(canary),
      Buffer.from(canary).toString('base64'),
      Buffer.from(canary).toString('hex'),
    ].some((form) => text.includes(form)),
  );
}

describe('What is secret or personal', () => {
  it.each(CALLS)('is in no error: %s', async (_, status, call) => {
    const { status: answered, text, headers } = await call();
    expect(answered).toBe(status);
    if (status >= 400) expect(seenIn(text + JSON.stringify([...headers]))).toEqual([]);
  });

  it('is in no log line, at any level', async () => {
    // A payment that is unknown, and an event that nobody understands.
    await database.query(
      `INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence)
       VALUES (gen_random_uuid(), 'order', 'no order', 'order.created', $1, 1)`,
      [JSON.stringify({ customerId: email, card })],
    );
    await until('the parked event', () => service.lines.some(({ msg }) => /refused for good/.test(String(msg))));
    await until('the unknown payment', () => service.lines.some(({ msg }) => /payment is unknown/.test(String(msg))));
    await until('the missing Redis', () => service.lines.some(({ msg }) => /Redis/.test(String(msg))));
    expect(service.lines.length).toBeGreaterThan(CALLS.length);
    expect(service.lines.filter((line) => seenIn(JSON.stringify(line)).length > 0)).toEqual([]);
  });

  it('is in no metric and no probe', async () => {
    const texts = await Promise.all(
      ['/metrics', '/health/ready', '/health/live'].map((path) => api(service.url)(path)),
    );
    for (const { text } of texts) expect(seenIn(text)).toEqual([]);
    expect(texts[0]?.text).toMatch(/route="unmatched"/);
  });

  it('is in no audit row, job, key or dead letter', async () => {
    // Refusals are written behind the answers, in their order: this is the last.
    await until('the refused erasure', async () => {
      const last = "SELECT FROM audit_events WHERE action = 'customer.erase' AND outcome = 'refused'";
      return (await database.query(last)).length > 0;
    });
    const kept = ['audit_events', 'audit_blocks', 'idempotency_keys', 'erasures', 'inbox', 'payments', 'outbox_parked'];
    for (const table of [...kept, 'graphile_worker._private_jobs']) {
      const rows = await database.query<{ row: string }>(`SELECT t::text AS row FROM ${table} AS t`);
      expect([table, rows.filter(({ row }) => seenIn(row).length > 0)]).toEqual([table, []]);
    }
    const [{ count } = { count: 0 }] = await database.query<{ count: number }>(
      'SELECT count(*)::int AS count FROM audit_events',
    );
    expect(count).toBeGreaterThan(8);
  });

  it('is where it belongs: with the order', async () => {
    expect((await orders(`/v1/orders?customerId=${email}`)).body.data[0]).toMatchObject(SECRETIVE);
  });
});
