import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { auditRow, AuditTrail } from '@platform/audit';
import { fromString, toUUID } from 'typeid-js';
import { spawnService } from '../support/child';
import { anOrder, type Answer, type Api, api, apiOnce, fetchToken } from '../support/client';
import { createDatabase } from '../support/database';
import { untilLockIsAwaited } from '../support/lock-wait';
import { startService, type TestService } from '../support/service';
import { TokenIssuer } from '../support/token-issuer';
import { until } from '../support/until';

let service: TestService;
let anonymous: Api;
let orders: Api;
let foreign: Api;
let reader: Api;

interface Row {
  position: string;
  id: string;
  tenant_id: string | null;
  client_id: string | null;
  action: string;
  object: string | null;
  outcome: string;
  status_code: number | null;
  error_code: string | null;
  request_id: string | null;
  address: string | null;
}

beforeAll(async () => {
  service = await startService({ ROLES: 'api,worker' }, { isPatient: true });
  anonymous = api(service.url);
  orders = api(service.url, await fetchToken('order-orchestrator'));
  foreign = api(service.url, await fetchToken('other-tenant'));
  reader = api(service.url, await fetchToken('compliance'));
});
afterAll(() => service.stop());

/** Rows of one request, once they are there. */
async function rowsOf(requestId: string, count = 1): Promise<Row[]> {
  return until(`${count} audit rows of ${requestId}`, async () => {
    const sql = 'SELECT * FROM audit_events WHERE request_id = $1 ORDER BY position';
    const rows = await service.database.query<Row>(sql, [requestId]);
    return rows.length >= count ? rows : undefined;
  });
}

/** How many refusals were counted only. */
async function leftOut(): Promise<number> {
  const [row] = await service.database.query<{ count: number }>(
    "SELECT coalesce(sum(object::int), 0)::int AS count FROM audit_events WHERE action = 'audit.refusals_dropped'",
  );
  return row?.count ?? 0;
}

const idOf = (answer: Answer) => String(answer.headers.get('x-request-id'));

const DOWN = { customerId: 'cust_down' };

describe('the audit trail of changes', () => {
  it('says who created which order, from where, in which request', async () => {
    const created = await orders('/v1/orders', { body: anOrder(DOWN), headers: { 'x-request-id': 'audit-create' } });
    expect(await rowsOf('audit-create')).toEqual([
      expect.objectContaining({
        tenant_id: 'acme',
        client_id: 'order-orchestrator',
        action: 'order.create',
        object: created.body.orderId,
        outcome: 'succeeded',
        status_code: 201,
        error_code: null,
        address: '127.0.0.1',
        certificate: null,
      }),
    ]);
  });

  it('does not say again what a replay did not do', async () => {
    const body = anOrder(DOWN);
    const first = await orders('/v1/orders', { body });
    const second = await orders('/v1/orders', { body });
    expect(second.headers.get('idempotent-replayed')).toBe('true');
    expect(await rowsOf(idOf(first))).toHaveLength(1);
    expect(await service.database.query('SELECT FROM audit_events WHERE request_id = $1', [idOf(second)])).toEqual([]);
  });

  it('says what the service did by itself, and who cancelled', async () => {
    const created = await orders('/v1/orders', { body: anOrder() });
    const path = `/v1/orders/${created.body.orderId}`;
    await until('the payment', async () => (await orders(path)).body.status === 'CONFIRMED');
    await orders(`${path}/cancel`, { method: 'POST' });
    await until('the void', async () => (await orders(path)).body.payment.status === 'VOIDED');
    const rows = await service.database.query<Row>('SELECT * FROM audit_events WHERE object = $1 ORDER BY position', [
      created.body.orderId,
    ]);
    expect(rows.map(({ action, client_id, status_code }) => [action, client_id, status_code])).toEqual([
      ['order.create', 'order-orchestrator', 201],
      ['order.confirm', null, null],
      ['order.cancel', 'order-orchestrator', 200],
      ['order.payment', null, null],
    ]);
    expect(new Set(rows.map(({ tenant_id }) => tenant_id))).toEqual(new Set(['acme']));
  });

  it('has no row where the change did not commit', async () => {
    // The outbox refuses the row, so the statement fails as a whole.
    await service.database.query(
      'ALTER TABLE outbox ADD CONSTRAINT refuse CHECK (request_id <> $$audit-fails$$) NOT VALID',
    );
    const answer = await orders('/v1/orders', { body: anOrder(DOWN), headers: { 'x-request-id': 'audit-fails' } });
    await service.database.query('ALTER TABLE outbox DROP CONSTRAINT refuse');
    expect(answer.status).toBe(500);
    expect(await service.database.query("SELECT FROM audit_events WHERE request_id = 'audit-fails'")).toEqual([]);
  });
});

describe('the audit trail of refusals', () => {
  it.each<[string, () => Promise<Answer>, Partial<Row>]>([
    [
      'no token',
      () => anonymous('/v1/orders', { body: anOrder() }),
      { action: 'order.create', status_code: 401, error_code: 'UNAUTHORIZED', tenant_id: null, client_id: null },
    ],
    [
      'a bad token',
      () => api(service.url, 'rubbish')('/v1/orders'),
      { action: 'order.list', status_code: 401, error_code: 'INVALID_TOKEN', tenant_id: null, client_id: null },
    ],
    [
      'a missing scope',
      () => reader('/v1/orders', { body: anOrder() }),
      { action: 'order.create', status_code: 403, error_code: 'INSUFFICIENT_SCOPE', client_id: 'compliance' },
    ],
    [
      'an order that there is not',
      () => orders('/v1/orders/ord_01jfw9v6k3f0qv8w2m4x5y6z7a'),
      { action: 'order.read', status_code: 404, object: 'ord_01jfw9v6k3f0qv8w2m4x5y6z7a', tenant_id: 'acme' },
    ],
    [
      'an id that is none, which it does not repeat',
      () => orders('/v1/orders/somebody@example.com'),
      { action: 'order.read', status_code: 404, error_code: 'ORDER_NOT_FOUND', object: null },
    ],
  ])('has a row for %s', async (_, call, expected) => {
    const answer = await call();
    expect(await rowsOf(idOf(answer))).toEqual([
      expect.objectContaining({ outcome: 'refused', address: '127.0.0.1', ...expected }),
    ]);
  });

  it("has a row for a foreign order in the trail of who asked, and none in the owner's", async () => {
    const { orderId } = (await orders('/v1/orders', { body: anOrder(DOWN) })).body;
    const answer = await foreign(`/v1/orders/${orderId}/cancel`, { method: 'POST' });
    expect(await rowsOf(idOf(answer))).toEqual([
      expect.objectContaining({ tenant_id: 'globex', action: 'order.cancel', object: orderId, status_code: 404 }),
    ]);
    const { data } = (await reader(`/v1/audit-events?orderId=${orderId}`)).body;
    expect(data.map(({ action }: { action: string }) => action)).toEqual(['order.create']);
  });

  it('has rows for conflicts and failed preconditions', async () => {
    const body = anOrder(DOWN);
    const { orderId } = (await orders('/v1/orders', { body })).body;
    const reused = await orders('/v1/orders', { body: { ...body, customerId: 'cust_other' } });
    const stale = await orders(`/v1/orders/${orderId}/cancel`, { method: 'POST', headers: { 'if-match': '"v99"' } });
    expect([reused.status, stale.status]).toEqual([409, 412]);
    const [conflict] = await rowsOf(idOf(reused));
    const [precondition] = await rowsOf(idOf(stale));
    expect(conflict).toMatchObject({ action: 'order.create', error_code: 'IDEMPOTENCY_KEY_REUSED' });
    expect(precondition).toMatchObject({ action: 'order.cancel', object: orderId, error_code: 'PRECONDITION_FAILED' });
  });

  it('has none for what was merely malformed, and none for routes that there are not', async () => {
    const malformed = await orders('/v1/orders', { body: {} });
    const unknown = await anonymous('/v1/nothing');
    const marker = await anonymous('/v1/orders');
    await rowsOf(idOf(marker));
    const ids = [idOf(malformed), idOf(unknown)];
    expect(await service.database.query('SELECT FROM audit_events WHERE request_id = ANY($1)', [ids])).toEqual([]);
  });

  it('writes many in few statements', async () => {
    const ids = Array.from({ length: 300 }, () => `storm-${randomUUID()}`);
    const answers = await Promise.all(ids.map((id) => reader('/v1/orders', { headers: { 'x-request-id': id } })));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([403]));
    const transactions = await until('the storm in the trail', async () => {
      const rows = await service.database.query<{ transaction: string }>(
        "SELECT transaction::text FROM audit_events WHERE request_id LIKE 'storm-%'",
      );
      return rows.length === 300 ? new Set(rows.map(({ transaction }) => transaction)) : undefined;
    });
    expect(transactions.size).toBeLessThan(60);
  });

  it('waits for a database that refuses, is bounded, and says what it had to leave out', async () => {
    await service.database.query('ALTER TABLE audit_events ADD CONSTRAINT refuse CHECK (status_code <> 403) NOT VALID');
    const refuse = () => reader('/v1/orders', { headers: { 'x-request-id': 'away' } });
    for (let round = 0; round < 27; round += 1) await Promise.all(Array.from({ length: 200 }, refuse));
    await service.database.query('ALTER TABLE audit_events DROP CONSTRAINT refuse');
    await until('the count of what was left out', async () => (await leftOut()) > 0);
    const [{ kept } = { kept: 0 }] = await service.database.query<{ kept: number }>(
      "SELECT count(*)::int AS kept FROM audit_events WHERE request_id = 'away'",
    );
    // Those of the tests before may have waited too.
    expect(kept).toBeLessThanOrEqual(5_000);
    await until('the rest', async () => kept + (await leftOut()) >= 5_400);
  });

  it('writes down a bounded number of those by nobody known, and counts the others', async () => {
    const headers = { 'x-request-id': 'nobody' };
    const before = await leftOut();
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(Array.from({ length: 200 }, () => anonymous('/v1/orders', { headers })));
    }
    await until('all of them in the trail', async () => {
      const [row] = await service.database.query<{ kept: number }>(
        "SELECT count(*)::int AS kept FROM audit_events WHERE request_id = 'nobody'",
      );
      return Number(row?.kept) >= 100 && Number(row?.kept) + (await leftOut()) - before === 1_000;
    });
    expect(await leftOut()).toBeGreaterThan(before);
  });

  it('writes down one whose client did not wait for the answer', async () => {
    const authorization = `Bearer ${await fetchToken('order-orchestrator')}`;
    await service.database.query('BEGIN');
    await service.database.query('LOCK TABLE orders IN ACCESS EXCLUSIVE MODE');
    const abort = new AbortController();
    const call = fetch(`${service.url}/v1/orders/ord_01jfw9v6k3f0qv8w2m4x5y6z7a`, {
      headers: { authorization, 'x-request-id': 'gone-away' },
      signal: abort.signal,
    });
    await untilLockIsAwaited(service.database, '%AS wanted (id, tenant_id)%');
    abort.abort();
    await expect(call).rejects.toThrow();
    await delay(50);
    await service.database.query('COMMIT');
    expect(await rowsOf('gone-away')).toEqual([expect.objectContaining({ action: 'order.read', status_code: 404 })]);
  });

  it('writes a batch again whose commit was not heard of, and has each row once', async () => {
    const trail = service.app.get(AuditTrail, { strict: false });
    const row = auditRow({ action: 'test.twice', outcome: 'refused' });
    await trail.append([row]);
    await trail.append([row, { ...row, id: randomUUID() }]);
    expect(await service.database.query("SELECT FROM audit_events WHERE action = 'test.twice'")).toHaveLength(2);
  });

  it('loses none when the process ends', async () => {
    const database = await createDatabase();
    const child = await spawnService({ DATABASE_URL: database.url, ROLES: 'api' });
    const answers = await Promise.all(Array.from({ length: 20 }, () => api(child.url)('/v1/orders')));
    expect(await child.end()).toBe(0);
    const ids = answers.map(idOf);
    expect(await database.query('SELECT FROM audit_events WHERE request_id = ANY($1)', [ids])).toHaveLength(20);
    await database.drop();
  });

  it('says how many are lost when the process ends while the database is away, and which they are', async () => {
    const child = await spawnService(
      { DATABASE_URL: 'postgres://a@127.0.0.1:1/a', ROLES: 'api' },
      { isNotReady: true },
    );
    const answers = await Promise.all(Array.from({ length: 20 }, () => api(child.url)('/v1/orders')));
    expect(await child.end()).toBe(0);
    expect(child.lines.filter(({ level }) => level === 'error')).toMatchObject([{ context: 'RefusalLog', lost: 20 }]);
    const refused = child.lines.filter(({ msg }) => msg === 'Request refused').map(({ requestId }) => requestId);
    expect(refused.sort()).toEqual(answers.map(idOf).sort());
  });
});

describe('GET /v1/audit-events', () => {
  it('needs the scope audit:read', async () => {
    const { status, body } = await orders('/v1/audit-events');
    expect([status, body.error.code]).toEqual([403, 'INSUFFICIENT_SCOPE']);
  });

  it('shows an event whole', async () => {
    const created = await orders('/v1/orders', { body: anOrder(DOWN) });
    const { body } = await reader(`/v1/audit-events?orderId=${created.body.orderId}`);
    expect(body.data).toEqual([
      {
        eventId: expect.stringMatching(/^aud_[0-9a-z]{26}$/),
        occurredAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        clientId: 'order-orchestrator',
        action: 'order.create',
        orderId: created.body.orderId,
        outcome: 'succeeded',
        statusCode: 201,
        requestId: idOf(created),
        address: '127.0.0.1',
      },
    ]);
    expect(body.links).toEqual({ self: `/v1/audit-events?orderId=${created.body.orderId}&limit=50` });
  });

  it('pages through all events of the tenant, newest first, each once', async () => {
    const seen: string[] = [];
    let path: string | undefined = '/v1/audit-events?limit=7&action=order.create';
    while (path !== undefined) {
      const { status, body }: Answer = await reader(path);
      expect(status).toBe(200);
      seen.push(...body.data.map(({ eventId }: { eventId: string }) => toUUID(fromString(eventId, 'aud'))));
      path = body.links.next;
    }
    const rows = await service.database.query<Row>(
      "SELECT id FROM audit_events WHERE tenant_id = 'acme' AND action = 'order.create' ORDER BY id DESC",
    );
    expect(rows.length).toBeGreaterThan(7);
    expect(seen).toEqual(rows.map(({ id }) => id));
  });

  it('filters by client, action and time, all at once', async () => {
    const refused = await reader('/v1/orders');
    await rowsOf(idOf(refused));
    const query = (filters: object) => reader(`/v1/audit-events?${new URLSearchParams({ ...filters })}`);
    const { body } = await query({ clientId: 'compliance', action: 'order.list' });
    expect(body.data.map(({ requestId }: { requestId: string }) => requestId)).toContain(idOf(refused));
    for (const event of body.data) expect([event.clientId, event.action]).toEqual(['compliance', 'order.list']);
    const { eventId, occurredAt } = body.data[0];
    const later = new Date(Date.parse(occurredAt) + 1).toISOString();
    const during = await query({ clientId: 'compliance', action: 'order.list', from: occurredAt, to: later });
    expect(during.body.data.length).toBeGreaterThan(0);
    const ids = async (filters: object) =>
      (await query(filters)).body.data.map((event: { eventId: string }) => event.eventId);
    expect(await ids({ clientId: 'compliance', to: later })).toContain(eventId);
    expect(await ids({ clientId: 'compliance', to: occurredAt })).not.toContain(eventId);
    expect(await ids({ clientId: 'compliance', from: later })).toEqual([]);
  });

  it.each([
    ['limit=0', 'limit'],
    ['from=yesterday', 'from'],
    ['nonsense=1', 'nonsense'],
    ['cursor=AAAA', 'cursor'],
  ])('refuses %s', async (query, field) => {
    const { status, body } = await reader(`/v1/audit-events?${query}`);
    expect([status, body.error.code, body.error.details[0].field]).toEqual([400, 'VALIDATION_FAILED', field]);
  });

  it('is read three times at once, so that slow reads leave connections to others', async () => {
    const once = apiOnce(service.url, await fetchToken('compliance'));
    await service.database.query('BEGIN');
    await service.database.query('LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE');
    const reads = [1, 2, 3].map(() => once('/v1/audit-events'));
    const waiting = () => untilLockIsAwaited(service.database, '%FROM audit_events%ORDER BY id DESC%');
    await until('three reads', async () => (await waiting()).length === 3);
    expect((await once('/v1/audit-events')).status).toBe(503);
    await service.database.query('COMMIT');
    for (const { status } of await Promise.all(reads)) expect(status).toBe(200);
    expect((await once('/v1/audit-events')).status).toBe(200);
  });

  it("shows nothing of another tenant's", async () => {
    const issuer = await TokenIssuer.start();
    const other = await startService({ OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: 'orders' });
    const call = async (tenant: string) =>
      api(other.url, await issuer.sign('RS256', { tenant, scope: 'orders:write audit:read' }));
    const a = await call('a');
    expect((await a('/v1/orders', { body: anOrder() })).status).toBe(201);
    expect((await a('/v1/audit-events')).body.data).toHaveLength(1);
    expect((await (await call('b'))('/v1/audit-events')).body).toEqual({
      data: [],
      links: { self: '/v1/audit-events?limit=50' },
    });
    await other.stop();
    await issuer.stop();
  });
});
