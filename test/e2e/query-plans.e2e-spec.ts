import { readFileSync } from 'node:fs';
import { newTimeId } from '@platform/ids';
import { Client } from 'pg';
import { toOrderUuid } from '../../apps/order-service/src/orders/order-id';
import { OrderLifecycleService } from '../../apps/order-service/src/orders/order-lifecycle.service';
import { OrderStore } from '../../apps/order-service/src/orders/order-store';
import { DUE_PAYMENT, markAsked } from '../../apps/order-service/src/payments/payment-store';
import { type Api, anOrder, api, fetchToken, placeOrder } from '../support/client';
import { startService, type TestService } from '../support/service';
import { until } from '../support/until';

const ORDERS = 40_000;

interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Index Cond'?: string;
  readonly 'Actual Rows'?: number;
  readonly 'Actual Loops'?: number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Shared Hit Blocks'?: number;
  readonly 'Shared Read Blocks'?: number;
  readonly Plans?: readonly PlanNode[];
}

let service: TestService;
let orders: Api;

beforeAll(async () => {
  service = await startService();
  orders = api(service.url, await fetchToken('order-orchestrator'));
  const fill = readFileSync('test/load/fill.sql', 'utf8')
    .replace(/^\\.*$/gm, '')
    .replaceAll(':orders', String(ORDERS));
  for (const statement of fill.split(/;\n/)) if (statement.trim()) await service.database.query(statement);
  await service.database.query(`
    INSERT INTO idempotency_keys (tenant_id, client_id, route, key, fingerprint, response_body)
    SELECT tenant_id, client_id, 'POST /v1/orders', sha256(id::text::bytea), '', '' FROM orders ON CONFLICT DO NOTHING`);
  await service.database.query('ANALYZE idempotency_keys');
});
afterAll(() => service.stop());

/** What the service says to PostgreSQL about `table` while it works. */
async function statementsOf(table: string, work: () => Promise<{ status: number }>): Promise<Statement[]> {
  const sent: Statement[] = [];
  const send = Reflect.get(Client.prototype, 'query') as (this: Client, ...args: unknown[]) => unknown;
  // Copied as they are sent: afterwards `Database` empties the values.
  const record = function (this: Client, ...args: unknown[]) {
    const [statement, second] = args as [string | Statement, (readonly unknown[])?];
    const { text, values } = typeof statement === 'string' ? { text: statement, values: second } : statement;
    if (new RegExp(`\\b${table}\\b`).test(text)) sent.push({ text, values: [...(second ?? values ?? [])] });
    return send.apply(this, args);
  };
  const query = jest.spyOn(Client.prototype, 'query').mockImplementation(record);
  try {
    const { status } = await work();
    expect(status).toBeLessThan(300);
  } finally {
    query.mockRestore();
  }
  return sent;
}

/** The plan that a prepared statement has for these values, or the one that it has for all; the latter as it went. */
async function planOf(
  { text, values }: Statement,
  plan: 'custom' | 'generic',
  analyze = true,
  { database } = service,
): Promise<PlanNode[]> {
  await database.query('BEGIN');
  try {
    await database.query(`SET LOCAL plan_cache_mode = force_${plan}_plan`);
    await database.query(`PREPARE statement AS ${text}`);
    const literals = values.length > 0 ? `(${values.map(literalOf).join(', ')})` : '';
    const options = analyze ? 'ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON' : 'FORMAT JSON';
    const [row] = await database.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
      `EXPLAIN (${options}) EXECUTE statement ${literals}`,
    );
    const nodes = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(nodes)];
    return row ? nodes(row['QUERY PLAN'][0].Plan) : [];
  } finally {
    await database.query('ROLLBACK; DEALLOCATE ALL');
  }
}

function literalOf(value: unknown): string {
  if (value === null || value === undefined) return 'NULL';
  if (Buffer.isBuffer(value)) return `'\\x${value.toString('hex')}'`;
  if (value instanceof Date) return `'${value.toISOString()}'`;
  if (Array.isArray(value)) return `'{${value.map((one) => JSON.stringify(one)).join(',')}}'`;
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return `'${text.replaceAll("'", "''")}'`;
}

/** With empty arrays: the service sends binary ones, which cannot be written as literals. */
const withoutRows = ({ text, values }: Statement) => ({
  text,
  values: values.map((value) => (Buffer.isBuffer(value) ? [] : value)),
});

const store = ({ app } = service) => app.get(OrderStore, { strict: false });

const readersIn = (plan: readonly PlanNode[]) =>
  plan.filter((node) => node['Relation Name'] !== undefined && node['Node Type'].endsWith('Scan'));
const indexesIn = (plan: readonly PlanNode[]) => [...new Set(readersIn(plan).map((node) => node['Index Name']))];
const rowsIn = (plan: readonly PlanNode[]) =>
  readersIn(plan).reduce(
    (sum, node) =>
      sum + ((node['Actual Rows'] ?? 0) + (node['Rows Removed by Filter'] ?? 0)) * (node['Actual Loops'] ?? 1),
    0,
  );
const buffersOf = ([root]: readonly PlanNode[]) =>
  (root?.['Shared Hit Blocks'] ?? 0) + (root?.['Shared Read Blocks'] ?? 0);

/** The moment before which about this part of the orders was made; they are of two years. */
const before = (part: number) => new Date(Date.now() - (1 - part) * 63_072_000_000).toISOString();

describe.each(['custom', 'generic'] as const)('The %s plan', (kind) => {
  describe.each<[string, string, string[]]>([
    ['no filter', '', ['orders_by_tenant']],
    ['a status that nearly all have', 'status=CONFIRMED', ['orders_by_status']],
    ['a status that few have', 'status=PENDING', ['orders_by_status']],
    ['a customer', 'customerId=cust_10', ['orders_by_customer']],
    ['a customer and a status', 'customerId=cust_0&status=REJECTED', ['orders_by_customer']],
    ['a customer and a frequent status', 'customerId=cust_0&status=CONFIRMED', ['orders_by_customer']],
  ])('of a list by %s', (_, filter, indexes) => {
    const limit = 20;
    it.each([
      ['from the newest', ''],
      ['from the middle', `createdBefore=${before(0.5)}`],
      ['within a day', `createdAfter=${before(0.5)}&createdBefore=${before(0.502)}`],
    ])('reads what it shows and little more, %s', async (_, range) => {
      const path = `/v1/orders?${[`limit=${limit}`, filter, range].filter(Boolean).join('&')}`;
      const sent = await statementsOf('orders', () => orders(path));
      expect(sent).toHaveLength(1);
      const [statement] = sent as [Statement];
      for (const tenant of ['acme', 'small-3', 'unheard-of']) {
        expect(statement.values[0]).toBe('acme');
        const plan = await planOf({ ...statement, values: [tenant, ...statement.values.slice(1)] }, kind);
        expect(indexesIn(plan)).toEqual(indexes);
        expect(plan.map((node) => node['Node Type']).filter((type) => /Sort|Seq|Bitmap/.test(type))).toEqual([]);
        // One more than it shows, and one of each other status that is merged.
        const most = limit + 1 + 3;
        expect(rowsIn(plan)).toBeLessThanOrEqual(most);
        // A page of the table for each row, and the way into each index.
        expect(buffersOf(plan)).toBeLessThanOrEqual(most + 4 * 5);
      }
    });
  });

  it('of a page far behind is that of the first', async () => {
    let path = '/v1/orders?limit=200';
    for (let page = 1; page <= 20; page += 1) path = (await orders(path)).body.links.next as string;
    const [statement] = (await statementsOf('orders', () => orders(path))) as [Statement];
    const plan = await planOf(statement, kind);
    expect(indexesIn(plan)).toEqual(['orders_by_tenant']);
    expect(rowsIn(plan)).toBe(201);
    expect(buffersOf(plan)).toBeLessThanOrEqual(201 + 20);
  });

  it('of an order reads its row', async () => {
    const { body } = await orders('/v1/orders?limit=1&status=CONFIRMED');
    const [statement] = (await statementsOf('orders', () => orders(`/v1/orders/${body.data[0].orderId}`))) as [
      Statement,
    ];
    const plan = await planOf(statement, kind);
    expect(indexesIn(plan)).toEqual(['orders_pkey']);
    expect(rowsIn(plan)).toBe(1);
    expect(buffersOf(plan)).toBeLessThanOrEqual(4);
  });

  it('of a create reads no table', async () => {
    const sent = await statementsOf('orders', () => orders('/v1/orders', { body: anOrder() }));
    expect(sent).toHaveLength(1);
    const [statement] = sent as [Statement];
    expect(readersIn(await planOf(withoutRows(statement), kind, false))).toEqual([]);
  });

  it('of a replay reads the row of its key', async () => {
    const body = anOrder();
    await orders('/v1/orders', { body });
    const sent = await statementsOf('idempotency_keys', () => orders('/v1/orders', { body }));
    const plan = await planOf(sent.at(-1)!, kind);
    expect(indexesIn(plan)).toEqual(['idempotency_keys_pkey']);
    expect(rowsIn(plan)).toBe(1);
  });

  it('of a cancellation reads and writes its row', async () => {
    const { orderId } = await placeOrder(orders);
    const sent = await statementsOf('orders', () => orders(`/v1/orders/${orderId}/cancel`, { method: 'POST' }));
    expect(sent).toHaveLength(2);
    for (const statement of sent) {
      expect(indexesIn(await planOf(withoutRows(statement), kind, false))).toEqual(['orders_pkey']);
    }
  });
});

it('The plan of an erasure reads the events of the orders, and not all that are kept', async () => {
  const compliance = api(service.url, await fetchToken('compliance'));
  await service.database.query(`
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence, published_at)
    SELECT gen_random_uuid(), 'test', 'another ' || n, 'test.told', '{}', 1, now() FROM generate_series(1, 10000) AS n`);
  await service.database.query('ANALYZE outbox');
  for (let order = 1; order <= 3; order += 1)
    await orders('/v1/orders', { body: anOrder({ customerId: 'forget_me' }) });
  const sent = await statementsOf('outbox', () => compliance('/v1/customers/forget_me/erasure', { method: 'POST' }));
  const plan = await planOf(
    sent.find(({ text }) => text.includes('UPDATE outbox'))!,
    'custom',
  );
  expect(indexesIn(plan)).toContain('outbox_by_aggregate');
  expect(plan.map((node) => node['Node Type'])).not.toContain('Seq Scan');
  expect(rowsIn(plan)).toBeLessThanOrEqual(9);
});

/** The plan of the audit trail that `compliance` gets, which comes from an index in its order. */
async function planOfTrail(compliance: Api, filter: string): Promise<PlanNode[]> {
  const sent = await statementsOf('audit_events', () => compliance(`/v1/audit-events?${filter}`));
  const plan = await planOf(
    sent.find(({ text }) => text.includes('SELECT'))!,
    'custom',
  );
  expect(plan.map((node) => node['Node Type']).filter((type) => /Sort|Seq|Bitmap/.test(type))).toEqual([]);
  return plan;
}

it('The plan of the audit trail of a client that did little reads that, and not all that others did', async () => {
  const compliance = api(service.url, await fetchToken('compliance'));
  await compliance('/v1/customers/nobody/erasure', { method: 'POST' });
  const plan = await planOfTrail(compliance, 'clientId=compliance&limit=20');
  expect(indexesIn(plan)).toEqual(['audit_events_by_client']);
  expect(rowsIn(plan)).toBeLessThanOrEqual(20);
});

it('The plan of the audit trail of an order reads what its own tenant did, and not what others were refused', async () => {
  const compliance = api(service.url, await fetchToken('compliance'));
  const { orderId } = await placeOrder(orders);
  await service.database.query(
    `INSERT INTO audit_events (id, occurred_at, tenant_id, client_id, action, object, outcome, status_code, error_code)
     SELECT gen_random_uuid(), now(), 'another', 'another', 'order.read', $1, 'refused', 404, 'ORDER_NOT_FOUND'
     FROM generate_series(1, 10000)`,
    [orderId],
  );
  await service.database.query('ANALYZE audit_events');
  const plan = await planOfTrail(compliance, `orderId=${orderId}`);
  expect(indexesIn(plan)).toEqual(['audit_events_by_tenant_and_object']);
  expect(rowsIn(plan)).toBe(1);
});

it('The plan of the search for jobs of dead runners reads those that are under way, and not all that wait', async () => {
  const query = jest.spyOn(Client.prototype, 'query');
  const worker = await startService({ ROLES: 'worker' });
  try {
    const search = await until('the search', () =>
      (query.mock.calls as unknown as [string, unknown[]][]).find(([text]) =>
        /force_unlock_workers/.test(String(text)),
      ),
    );
    query.mockRestore();
    await worker.database.query(
      `SELECT graphile_worker.add_jobs(ARRAY(
         SELECT ('process-payment', '{}', NULL, now() + interval '1 day', 9, NULL, NULL, NULL)::graphile_worker.job_spec
         FROM generate_series(1, 20000)))`,
    );
    await worker.database.query('VACUUM ANALYZE graphile_worker._private_jobs');
    const plan = await planOf({ text: search[0], values: search[1] }, 'custom', true, worker);
    const ofJobs = plan.filter((node) => node['Relation Name'] === '_private_jobs');
    expect(indexesIn(ofJobs)).toEqual(['jobs_under_way']);
    expect(rowsIn(plan)).toBeLessThan(100);
  } finally {
    query.mockRestore();
    await worker.stop();
  }
});

describe('The plan of the oldest payment to void', () => {
  it('reads one row of its own index, however many wait', async () => {
    await service.database.query(
      "UPDATE orders SET payment_status = 'AUTHORIZED' WHERE status = 'CANCELLED' AND payment_status = 'VOIDED'",
    );
    const waiting = "SELECT FROM orders WHERE status = 'CANCELLED' AND payment_status = 'AUTHORIZED'";
    expect((await service.database.query(waiting)).length).toBeGreaterThan(1_000);
    const sent = await statementsOf('orders', async () => {
      await store().oldestToVoid();
      return { status: 200 };
    });
    const plan = await planOf(sent[0]!, 'custom', true);
    await service.database.query(
      "UPDATE orders SET payment_status = 'VOIDED' WHERE status = 'CANCELLED' AND payment_status = 'AUTHORIZED'",
    );
    expect(indexesIn(plan)).toEqual(['orders_to_void']);
    expect(rowsIn(plan)).toBeLessThanOrEqual(3);
    expect(buffersOf(plan)).toBeLessThanOrEqual(10);
  });
});

describe('The plan of the oldest pending orders', () => {
  const planIn = async (of: TestService) => {
    const sent = await statementsOf('orders', async () => {
      await store(of).oldestPending(DUE_PAYMENT);
      return { status: 200 };
    });
    return planOf(sent[0]!, 'custom', true, of);
  };

  it('reads one of each tenant, and none of the others', async () => {
    const TENANTS = 22;
    const plan = await planIn(service);
    expect(indexesIn(plan)).toEqual(expect.arrayContaining(['orders_by_status', 'payments_pkey']));
    expect(plan.map((node) => node['Node Type']).filter((type) => /Sort|Seq|Bitmap/.test(type))).toEqual([]);
    // A tenant's name, its order and the payment of that.
    expect(rowsIn(plan)).toBeLessThanOrEqual(3 * TENANTS);
    expect(buffersOf(plan)).toBeLessThanOrEqual(12 * TENANTS);
  });

  it('is the same with statistics of an outage, in which all were pending', async () => {
    const own = await startService();
    await own.database.query(
      `INSERT INTO orders (id, tenant_id, client_id, customer_id, status, currency, total_value, items, version,
                           event_sequence, created_at, updated_at)
       SELECT id, 'acme', 'c', 'cust_1', 'PENDING', 'USD', 1, '[]', 1, 1, now(), now()
       FROM unnest($1::uuid[]) AS id`,
      [Array.from({ length: 20_000 }, newTimeId)],
    );
    await own.database.query('ANALYZE orders');
    await own.database.query("UPDATE orders SET status = 'CONFIRMED'");
    const plan = await planIn(own);
    expect(indexesIn(plan)).toContain('orders_by_status');
    expect(rowsIn(plan)).toBeLessThanOrEqual(3);
    await own.stop();
  });
});

/** To plan a statement takes longer than to read an order. PostgreSQL compares after five executions. */
it.each<[string, (uuid: string) => Promise<unknown>]>([
  ['to change it', (uuid) => store().find('acme', uuid)],
  ['to show it', (uuid) => store().show('acme', uuid)],
  ['with its payment', (uuid) => store().findWith(uuid, DUE_PAYMENT)],
  ['to have it paid', (uuid) => store().whilePending(uuid, markAsked(86_400_000))],
])('A lone read of an order, %s, is not planned again and again', async (_, read) => {
  const { orderId } = await placeOrder(orders);
  const uuid = toOrderUuid(orderId);
  const [statement] = (await statementsOf('orders', async () => {
    await read(uuid);
    return { status: 200 };
  })) as [Statement];
  const { database } = service;
  await database.query(`PREPARE statement AS ${statement.text}`);
  try {
    const execute = `EXECUTE statement (${statement.values.map(literalOf).join(', ')})`;
    for (let time = 1; time <= 8; time += 1) await database.query(execute);
    expect(await database.query("SELECT custom_plans FROM pg_prepared_statements WHERE name = 'statement'")).toEqual([
      { custom_plans: '5' },
    ]);
  } finally {
    await database.query('DEALLOCATE ALL');
  }
});

/** As in the first minute of a new deployment, under load. A connection keeps a plan until there are statistics. */
describe('While there are few orders, and no statistics of them, the plan for all values', () => {
  let young: TestService;
  let uuid: string;

  beforeAll(async () => {
    young = await startService();
    const client = api(young.url, await fetchToken('order-orchestrator'));
    uuid = toOrderUuid((await client('/v1/orders', { body: anOrder() })).body.orderId as string);
  });
  afterAll(() => young.stop());

  const youngStore = () => store(young);
  const of = async (work: () => Promise<unknown>) => {
    const sent = await statementsOf('orders', async () => ({ status: (await work()) === undefined ? 404 : 200 }));
    const plans: unknown[] = [];
    for (const statement of sent) plans.push(indexesIn(await planOf(withoutRows(statement), 'generic', false, young)));
    return plans;
  };

  it('of an order, and of one to be paid, takes the way through the primary keys', async () => {
    await young.database.query('INSERT INTO payments (order_id) VALUES ($1)', [uuid]);
    expect(await of(() => youngStore().find('acme', uuid))).toEqual([['orders_pkey']]);
    expect(await of(() => youngStore().show('acme', uuid))).toEqual([['orders_pkey']]);
    expect(await of(() => youngStore().findWith(uuid, DUE_PAYMENT))).toEqual([['orders_pkey', 'payments_pkey']]);
    expect(await of(() => youngStore().whilePending(uuid, markAsked(86_400_000)))).toEqual([
      ['orders_pkey', 'payments_pkey'],
    ]);
  });

  it('of a change takes the way through the primary key', async () => {
    const lifecycle = young.app.get(OrderLifecycleService, { strict: false });
    const order = await youngStore().find('acme', uuid);
    expect(await of(() => lifecycle.applyPayment(order!, { paymentId: 'pay_1', status: 'AUTHORIZED' }))).toEqual([
      ['orders_pkey'],
    ]);
  });

  it('of the next events reads them from the beginning of their index, unsorted', async () => {
    let worker: TestService | undefined;
    try {
      const sent = await statementsOf('outbox|enable_sort', async () => {
        worker = await startService({ ROLES: 'worker' });
        await worker.database.query(
          `INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence)
           VALUES (gen_random_uuid(), 'test', 'a', 'test.told', '{}', 1)`,
        );
        const unpublished = () => worker!.database.query('SELECT FROM outbox WHERE published_at IS NULL');
        await until('the relay', async () => (await unpublished()).length === 0);
        return { status: 200 };
      });
      const setting = sent.find(({ text }) => text.includes('enable_sort'));
      const read = sent.find(({ text }) => /payload.*ORDER BY position/s.test(text));
      await worker!.database.query(setting!.text);
      const plan = await planOf(read!, 'generic', false, worker);
      expect(indexesIn(plan)).toContain('outbox_unpublished');
      expect(plan.map((node) => node['Node Type']).filter((type) => /Sort|Seq|Bitmap/.test(type))).toEqual([]);
    } finally {
      await worker?.stop();
    }
  });
});
