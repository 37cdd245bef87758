import { fingerprint, IdempotencyStore } from '@platform/idempotency';
import { type Api, anOrder, api, apiOnce, fetchToken, metric } from '../support/client';
import { untilLockIsAwaited } from '../support/lock-wait';
import { startService, type TestService } from '../support/service';
import { inSomeRound } from '../support/until';

describe('Idempotency of POST /v1/orders', () => {
  let service: TestService;
  let token: string;
  let orders: Api;
  let once: Api;

  beforeAll(async () => {
    service = await startService({ IDEMPOTENCY_TTL_HOURS: '24' }, { isPatient: true });
    token = await fetchToken('order-orchestrator');
    orders = api(service.url, token);
    once = apiOnce(service.url, token);
  });
  afterAll(() => service.stop());

  const countOf = async (table: string, orderId: string) => {
    const where = table === 'outbox' ? 'aggregateid = $1' : "response_body::jsonb ->> 'orderId' = $1";
    const [row] = await service.database.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM ${table} WHERE ${where}`,
      [orderId],
    );
    return row?.n;
  };
  const ordersOf = async (customerId: string) => {
    const rows = await service.database.query('SELECT FROM orders WHERE customer_id = $1', [customerId]);
    return rows.length;
  };

  it('gives the first answer again, byte for byte, and makes nothing new', async () => {
    const body = anOrder({ customerId: 'cust_replay' });
    const first = await orders('/v1/orders', { body });
    expect(first.headers.has('idempotent-replayed')).toBe(false);
    await service.database.query(
      "UPDATE orders SET status = 'CONFIRMED', version = 2 WHERE customer_id = 'cust_replay'",
    );
    const again = await orders('/v1/orders', { body });
    expect(again.status).toBe(201);
    expect(again.text).toBe(first.text);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(again.headers.get('location')).toBe(first.headers.get('location'));
    expect(await ordersOf('cust_replay')).toBe(1);
    expect(await countOf('outbox', first.body.orderId)).toBe(1);
  });

  it('counts an order once, and each time that its answer is given again', async () => {
    const names = ['orders_created_total', 'idempotent_replays_total'];
    const counts = () => Promise.all(names.map((name) => metric(service.url, name)));
    const [created = NaN, replays = NaN] = await counts();
    const body = anOrder();
    await orders('/v1/orders', { body });
    expect(await counts()).toEqual([created + 1, replays]);
    await orders('/v1/orders', { body });
    expect(await counts()).toEqual([created + 1, replays + 1]);
  });

  it('takes the key from the header, bare or quoted, or from the body, as one and the same', async () => {
    const { idempotencyKey, ...body } = anOrder();
    const first = await orders('/v1/orders', { body, headers: { 'idempotency-key': idempotencyKey } });
    expect(first.status).toBe(201);
    const quoted = await orders('/v1/orders', { body, headers: { 'idempotency-key': `"${idempotencyKey}"` } });
    const field = await orders('/v1/orders', { body: { ...body, idempotencyKey } });
    const both = await orders('/v1/orders', {
      body: { ...body, idempotencyKey },
      headers: { 'idempotency-key': idempotencyKey },
    });
    for (const answer of [quoted, field, both]) {
      expect(answer.text).toBe(first.text);
      expect(answer.headers.get('idempotent-replayed')).toBe('true');
    }
  });

  it('refuses a request without a key, with two different ones, and with a malformed header', async () => {
    const { idempotencyKey, ...body } = anOrder();
    const none = await orders('/v1/orders', { body });
    expect([none.status, none.body.error.code]).toEqual([400, 'IDEMPOTENCY_KEY_REQUIRED']);
    const headers = { 'idempotency-key': 'another-key-altogether' };
    const two = await orders('/v1/orders', { body: { ...body, idempotencyKey }, headers });
    expect([two.status, two.body.error.code]).toEqual([400, 'ORDER_VALIDATION_FAILED']);
    for (const key of ['short', 'x'.repeat(256), 'with a space in it', '""']) {
      const { status } = await orders('/v1/orders', { body, headers: { 'idempotency-key': key } });
      expect({ key, status }).toEqual({ key, status: 400 });
    }
  });

  it('does not mind key order, white space or the spelling of numbers', async () => {
    const body = anOrder({ metadata: { b: 1, a: [1, 2.5] } });
    const first = await orders('/v1/orders', { body });
    const { idempotencyKey, customerId, items, totalAmount } = body;
    const reordered =
      `{ "totalAmount": {"value":"${totalAmount.value}", "currency":"USD"},\n "metadata":{"a":[1.0,25e-1],"b":1.00},` +
      `"items": ${JSON.stringify(items)},"customerId":"${customerId}",\t"idempotencyKey":"${idempotencyKey}" }`;
    expect((await orders('/v1/orders', { body: reordered })).text).toBe(first.text);
  });

  it('answers 409 to another request with the same key', async () => {
    const body = anOrder();
    const first = await orders('/v1/orders', { body });
    const changes = [
      { customerId: 'cust_124' },
      { metadata: { sourceSystem: 'x' } },
      { metadata: undefined },
      { items: [...body.items].reverse() },
    ];
    for (const change of changes) {
      const other = await orders('/v1/orders', { body: { ...body, ...change } });
      expect([other.status, other.body.error.code]).toEqual([409, 'IDEMPOTENCY_KEY_REUSED']);
      expect(other.headers.has('idempotent-replayed')).toBe(false);
    }
    expect((await orders('/v1/orders', { body })).text).toBe(first.text);
  });

  it('does not remember refusals', async () => {
    const body = anOrder();
    expect((await orders('/v1/orders', { body: { ...body, customerId: '' } })).status).toBe(400);
    const { status, headers } = await orders('/v1/orders', { body });
    expect([status, headers.has('idempotent-replayed')]).toEqual([201, false]);
  });

  it('keeps the keys of tenants apart', async () => {
    const body = anOrder();
    const mine = await orders('/v1/orders', { body });
    const theirs = await api(service.url, await fetchToken('other-tenant'))('/v1/orders', { body });
    expect(theirs.status).toBe(201);
    expect(theirs.body.orderId).not.toBe(mine.body.orderId);
  });

  it('binds the key to the client, not to the token', async () => {
    const body = anOrder();
    const first = await orders('/v1/orders', { body });
    const another = await fetchToken('order-orchestrator');
    expect(another).not.toBe(token);
    expect((await api(service.url, another)('/v1/orders', { body })).text).toBe(first.text);
  });

  it('checks the scope before it replays', async () => {
    const body = anOrder();
    await orders('/v1/orders', { body });
    const reader = await api(service.url, await fetchToken('reporting'))('/v1/orders', { body });
    expect(reader.status).toBe(403);
  });

  it('gives one order, one event and 50 equal answers to 50 simultaneous requests', async () => {
    for (let round = 0; round < 5; round += 1) {
      const body = anOrder({ customerId: `cust_storm_${round}` });
      const answers = await Promise.all(Array.from({ length: 50 }, () => once('/v1/orders', { body })));
      expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
      expect(answers[0]?.status).toBe(201);
      expect(answers.filter(({ headers }) => !headers.has('idempotent-replayed'))).toHaveLength(1);
      expect(await ordersOf(body.customerId)).toBe(1);
      expect(await countOf('outbox', answers[0]?.body.orderId)).toBe(1);
    }
  });

  it('gives one order when different requests race for a key, and 409 to the losers', async () => {
    const body = anOrder();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => once('/v1/orders', { body: { ...body, customerId: `cust_race_${i}` } })),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(19);
  });

  it('forgets a key after IDEMPOTENCY_TTL_HOURS', async () => {
    const body = anOrder({ customerId: 'cust_expired' });
    const first = await orders('/v1/orders', { body });
    const age =
      "UPDATE idempotency_keys SET created_at = now() - interval '24 hours' - $2::interval WHERE key = sha256($1::text::bytea)";
    await service.database.query(age, [body.idempotencyKey, '-1 minute']);
    expect((await orders('/v1/orders', { body })).text).toBe(first.text);
    await service.database.query(age, [body.idempotencyKey, '1 minute']);
    const answers = await Promise.all(Array.from({ length: 10 }, () => once('/v1/orders', { body })));
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(answers[0]?.text).not.toBe(first.text);
    expect(await ordersOf('cust_expired')).toBe(2);
  });

  it('answers new orders and retries of two tenants that wait for the same few connections', async () => {
    const narrow = await startService({ DATABASE_POOL_SIZE: '1' });
    const clients = [token, await fetchToken('other-tenant')].map((bearer) => apiOnce(narrow.url, bearer));
    // More would wait for longer than one may for a connection, which is 0.7 s.
    const bodies = Array.from({ length: 30 }, () => anOrder());
    for (let time = 0; time < 3; time += 1) {
      await inSomeRound(async () => {
        const calls = bodies.map((body, i) => clients[i % 2]!('/v1/orders', { body }));
        const news = bodies.map((_, i) => clients[i % 2]!('/v1/orders', { body: anOrder() }));
        const statuses = (await Promise.all([...calls, ...news])).map(({ status }) => status);
        expect(new Set(statuses)).toEqual(new Set([201]));
      });
    }
    await narrow.stop();
  });
});

describe('IdempotencyStore.once', () => {
  let service: TestService;
  let store: IdempotencyStore;

  beforeAll(async () => {
    service = await startService({}, { isPatient: true });
    store = service.app.get(IdempotencyStore, { strict: false });
    await service.database.query('CREATE TABLE refunds (id text); GRANT INSERT ON refunds TO order_service');
  });
  afterAll(() => service.stop());

  const scope = { tenantId: 'acme', clientId: 'order-orchestrator', route: 'POST /v1/refunds' };
  const refund = (key: string, id: string, request: object, after = () => Promise.resolve()) =>
    refundIn(scope, key, id, request, after);
  const refundIn = (own: object, key: string, id: string, request: object, after = () => Promise.resolve()) =>
    store.once({ scope: { ...scope, ...own }, key, fingerprint: fingerprint(key, request), answer: id }, async (tx) => {
      await tx.query('INSERT INTO refunds (id) VALUES ($1)', [id]);
      await after();
    });
  const refunds = async () =>
    (await service.database.query<{ id: string }>('SELECT id FROM refunds')).map(({ id }) => id);

  it('makes one change for a key, also when it comes many times at once, and gives the others its answer', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) => refund('a-key-of-one', `one-${n}`, { a: 1 })),
    );
    const [made] = await refunds();
    expect(answers.filter((answer) => answer === undefined)).toHaveLength(1);
    expect(new Set(answers.filter((answer) => answer !== undefined))).toEqual(new Set([made]));
    expect(await refunds()).toHaveLength(1);
    await expect(refund('a-key-of-one', 'two', { a: 2 })).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' });
    expect(await refunds()).toEqual([made]);
  });

  it('remembers nothing of a change that failed', async () => {
    const before = await refunds();
    await expect(refund('a-key-of-two', 'failed', {}, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await refunds()).toEqual(before);
    expect(await refund('a-key-of-two', 'made', {})).toBeUndefined();
    expect(await refund('a-key-of-two', 'made again', {})).toBe('made');
  });

  it.each([
    ['at two routes', { route: 'POST /v1/gifts' }],
    ['of two clients', { clientId: 'another' }],
    ['of two tenants', { tenantId: 'globex' }],
  ])('takes one key %s for two keys', async (whose, other) => {
    const once = (own: object, id: string) => refundIn(own, `a-key-${whose}`, id, {});
    expect(await once({}, `first ${whose}`)).toBeUndefined();
    expect(await once(other, `second ${whose}`)).toBeUndefined();
    expect(await once({}, 'again')).toBe(`first ${whose}`);
    expect(await once(other, 'again')).toBe(`second ${whose}`);
  });

  it('frees no key whose time was up when it was read, and that was taken anew before it could be freed', async () => {
    const { database } = service;
    await refund('a-key-of-four', 'long ago', {});
    const [key] = await database.query<{ key: Buffer }>(
      `UPDATE idempotency_keys SET created_at = now() - interval '1 year'
       WHERE response_body = 'long ago' RETURNING key`,
    );
    // It can be read while it is locked, and not deleted.
    await database.query('BEGIN');
    await database.query('SELECT FROM idempotency_keys WHERE key = $1 FOR UPDATE', [key?.key]);
    const late = refund('a-key-of-four', 'too late', {});
    await untilLockIsAwaited(database);
    const anew = "UPDATE idempotency_keys SET created_at = now(), response_body = 'anew' WHERE key = $1";
    await database.query(anew, [key?.key]);
    await database.query('COMMIT');
    expect(await late).toBe('anew');
    expect(await refunds()).not.toContain('too late');
  });
});
