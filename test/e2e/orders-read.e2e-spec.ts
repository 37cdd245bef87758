import { Database } from '@platform/database';
import { newContext, runInContext } from '@platform/request-context';
import { toOrderUuid } from '../../apps/order-service/src/orders/order-id';
import { OrderLifecycleService } from '../../apps/order-service/src/orders/order-lifecycle.service';
import { OrderStore } from '../../apps/order-service/src/orders/order-store';
import { type Api, anOrder, api, fetchToken, placeOrder } from '../support/client';
import { untilLockIsAwaited } from '../support/lock-wait';
import { startService, type TestService } from '../support/service';

interface Page {
  data: {
    orderId: string;
    status: string;
    customerId: string;
    createdAt: string;
    items: unknown[];
    metadata?: unknown;
  }[];
  links: { self: string; next?: string };
}

let service: TestService;
let orders: Api;
let reporting: Api;
let foreign: Api;

beforeAll(async () => {
  service = await startService({}, { isPatient: true });
  orders = api(service.url, await fetchToken('order-orchestrator'));
  reporting = api(service.url, await fetchToken('reporting'));
  foreign = api(service.url, await fetchToken('other-tenant'));
});
afterAll(() => service.stop());

async function place(customerId: string): Promise<string> {
  return (await placeOrder(orders, anOrder({ customerId }))).orderId;
}

describe('OrderLifecycleService', () => {
  it('finds and locks an order for its tenant, and for no other', async () => {
    const lifecycle = service.app.get(OrderLifecycleService, { strict: false });
    const orderId = await place('cust_asked_for');
    const find = (tenantId: string, id: string) => lifecycle.find(tenantId, id);
    const lock = (tenantId: string, id: string) =>
      service.app.get(Database).inTransaction((tx) => lifecycle.findAndLock(tx, tenantId, id));
    for (const read of [find, lock]) {
      expect(await read('acme', orderId)).toMatchObject({ customerId: 'cust_asked_for', status: 'PENDING' });
      for (const id of [orderId, 'ord_01jfw9v6k3f0qv8w2m4x5y6z7a', 'nonsense']) {
        await expect(read('globex', id)).rejects.toMatchObject({ code: 'ORDER_NOT_FOUND' });
      }
    }
  });

  it('locks an order of any tenant for the service itself, and not while it works for a client', async () => {
    const lifecycle = service.app.get(OrderLifecycleService, { strict: false });
    const orderId = await place('cust_of_acme');
    const lock = (id: string) =>
      service.app.get(Database).inTransaction((tx) => lifecycle.findAndLockForAnyTenant(tx, id));
    expect(await lock(orderId)).toMatchObject({ tenantId: 'acme', customerId: 'cust_of_acme' });
    await expect(lock('ord_01jfw9v6k3f0qv8w2m4x5y6z7a')).rejects.toMatchObject({ code: 'ORDER_NOT_FOUND' });
    const principal = { clientId: 'some_client', tenantId: 'acme', scopes: new Set<string>() };
    await expect(runInContext({ ...newContext(), principal }, () => lock(orderId))).rejects.toThrow(
      /^A statement was refused/,
    );
  });

  it.each(['its', 'any'])('keeps an order locked for %s tenant as it is, until the transaction ends', async (whose) => {
    const lifecycle = service.app.get(OrderLifecycleService, { strict: false });
    const orderId = await place('cust_held');
    const seen: string[] = [];
    let cancelled: Promise<unknown> | undefined;
    await service.app.get(Database).inTransaction(async (tx) => {
      const lock = () =>
        whose === 'any' ? lifecycle.findAndLockForAnyTenant(tx, orderId) : lifecycle.findAndLock(tx, 'acme', orderId);
      await lock();
      cancelled = orders(`/v1/orders/${orderId}/cancel`, { method: 'POST' }).then(({ body }) => seen.push(body.status));
      await untilLockIsAwaited(service.database);
      seen.push((await lock()).status);
    });
    await cancelled;
    expect(seen).toEqual(['PENDING', 'CANCELLED']);
  });

  it('takes no two companions of one table, whose columns would be confused', async () => {
    const lifecycle = service.app.get(OrderLifecycleService, { strict: false });
    const orderId = await place('cust_accompanied');
    const findWith = (columns: string) => lifecycle.findWith(orderId, { table: 'payments', columns });
    await expect(findWith('asked_at')).rejects.toMatchObject({ code: 'ORDER_NOT_FOUND' }); // has no payment yet
    await expect(findWith('attempts')).rejects.toThrow('Two statements are named find-orders-with-payments');
  });
});

describe('OrderStore', () => {
  it('gives an order that two tenants ask for at the same time to the one whose it is', async () => {
    const store = service.app.get(OrderStore, { strict: false });
    const uuid = toOrderUuid(await place('cust_of_two'));
    for (const read of ['find', 'show'] as const) {
      const [own, other] = await Promise.all(['acme', 'globex'].map((tenantId) => store[read](tenantId, uuid)));
      expect(own).toMatchObject({ id: uuid, customerId: 'cust_of_two' });
      expect(other).toBeUndefined();
    }
  });
});

describe('GET /v1/orders/{orderId}', () => {
  it('answers 304 while the ETag is current', async () => {
    const path = `/v1/orders/${await place('cust_etag')}`;
    const { headers, body } = await orders(path);
    const etag = headers.get('etag') ?? '';
    expect(etag).toBe(`"${body.version}"`);
    for (const match of [etag, `W/${etag}`, `"7", ${etag}`, '*']) {
      const again = await orders(path, { headers: { 'if-none-match': match } });
      const { status, text } = again;
      expect({ match, status, text, etag: again.headers.get('etag') }).toEqual({ match, status: 304, text: '', etag });
    }
    expect((await orders(path, { headers: { 'if-none-match': '"2"' } })).status).toBe(200);
  });

  it('shows an order to every client of its tenant', async () => {
    const orderId = await place('cust_shared');
    const { headers, body } = await reporting(`/v1/orders/${orderId}`);
    expect(headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(body.orderId).toBe(orderId);
  });

  it('answers the same for an order of another tenant, an unknown id and what is no id', async () => {
    const orderId = await place('cust_mine');
    const known = await foreign(`/v1/orders/${orderId}`, { headers: { 'x-request-id': 'same' } });
    expect(known.status).toBe(404);
    expect(known.body.error.code).toBe('ORDER_NOT_FOUND');
    for (const id of [
      'ord_01jfw9v6k3f0qv8w2m4x5y6z7a',
      'ord_x',
      'evt_01jfw9v6k3f0qv8w2m4x5y6z7a',
      '%00',
      "'",
      'x'.repeat(900),
    ]) {
      const unknown = await foreign(`/v1/orders/${id}`, { headers: { 'x-request-id': 'same' } });
      expect({ id, status: unknown.status, text: unknown.text }).toEqual({ id, status: 404, text: known.text });
    }
  });
});

describe('GET /v1/orders', () => {
  const list = async (query: string): Promise<Page> => (await orders(`/v1/orders${query}`)).body as Page;
  const idsOf = ({ data }: Page) => data.map(({ orderId }) => orderId);

  it('shows nothing of another tenant', async () => {
    await place('cust_secret');
    const { headers, body } = await foreign('/v1/orders');
    expect(headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(body.data).toEqual([]);
    expect((await foreign('/v1/orders?customerId=cust_secret')).body.data).toEqual([]);
  });

  it('gives the newest first, 50 unless told otherwise', async () => {
    for (let i = 0; i < 51; i += 1) await place('cust_many');
    const page = await list('');
    expect(page.data).toHaveLength(50);
    expect(idsOf(page)).toEqual(idsOf(page).sort().reverse());
    expect(page.links).toEqual({ self: '/v1/orders?limit=50', next: expect.stringContaining('cursor=') });
    expect((await list('?limit=200&customerId=cust_many')).data).toHaveLength(51);
  });

  it.each(['', '&status=REJECTED', '&customerId=cust_why', '&customerId=cust_why&status=REJECTED'])(
    'shows why an order was rejected, as GET of it does, with ?limit=2%s',
    async (query) => {
      const rejected = await place('cust_why');
      const store = service.app.get(OrderStore, { strict: false });
      const known = await store.findForAnyTenant(toOrderUuid(rejected));
      if (known) await service.app.get(OrderLifecycleService, { strict: false }).reject(known, 'payment_unknown');
      const pending = await place('cust_why');
      const { data } = await list(`?limit=2${query}`);
      const shown = data.find(({ orderId }) => orderId === rejected);
      expect(shown).toMatchObject({ status: 'REJECTED', reason: 'payment_unknown' });
      expect((await orders(`/v1/orders/${rejected}`)).body).toEqual(shown);
      expect((await orders(`/v1/orders/${pending}`)).body).not.toHaveProperty('reason');
      const other = data.find(({ orderId }) => orderId === pending);
      if (query.includes('status')) expect(other).toBeUndefined();
      else expect(other).not.toHaveProperty('reason');
    },
  );

  it('neither skips nor repeats while orders are being inserted', async () => {
    const before: string[] = [];
    for (let i = 0; i < 25; i += 1) before.push(await place('cust_paging'));
    const seen: string[] = [];
    let next: string | undefined = '/v1/orders?customerId=cust_paging&limit=4';
    while (next !== undefined) {
      const { body }: { body: Page } = await orders(next);
      expect(body.links.self).toBe(next);
      seen.push(...idsOf(body));
      next = body.links.next;
      await Promise.all([place('cust_paging'), place('cust_paging')]);
    }
    expect(seen).toEqual([...before].reverse());
  });

  it('gives no next page when the last one is full', async () => {
    for (let i = 0; i < 4; i += 1) await place('cust_full');
    const first = await list('?customerId=cust_full&limit=2');
    const { body: second } = (await orders(first.links.next ?? '')) as { body: Page };
    expect(second.data).toHaveLength(2);
    expect(second.links.next).toBeUndefined();
  });

  it('goes on behind the longest page', async () => {
    await place('cust_longest');
    await service.database.query(
      `INSERT INTO orders (id, tenant_id, client_id, customer_id, status, currency, total_value, items, version,
                           event_sequence, created_at, updated_at)
       SELECT gen_random_uuid(), tenant_id, client_id, customer_id, status, currency, total_value, items, version,
              event_sequence, created_at, updated_at
       FROM orders, generate_series(1, 200) WHERE customer_id = 'cust_longest'`,
    );
    for (const query of ['customerId=cust_longest', 'customerId=cust_longest&status=PENDING']) {
      const first = await list(`?${query}&limit=200`);
      const rest = (await orders(first.links.next ?? '')).body as Page;
      expect([first.data.length, rest.data.length]).toEqual([200, 1]);
      expect(new Set([...idsOf(first), ...idsOf(rest)]).size).toBe(201);
    }
  });

  it('combines its filters', async () => {
    const ids = [await place('cust_filter'), await place('cust_filter'), await place('cust_filter')];
    await service.database.query(
      "UPDATE orders SET status = 'CONFIRMED' WHERE customer_id = 'cust_filter' AND id = (SELECT max(id::text)::uuid FROM orders WHERE customer_id = 'cust_filter')",
    );
    const { body: middle } = await orders(`/v1/orders/${ids[1]}`);
    const at = encodeURIComponent(middle.createdAt);

    expect(idsOf(await list('?customerId=cust_filter&status=PENDING'))).toEqual([ids[1], ids[0]]);
    expect(idsOf(await list('?customerId=cust_filter&status=CONFIRMED'))).toEqual([ids[2]]);
    expect(idsOf(await list('?customerId=cust_filter&status=REJECTED'))).toEqual([]);
    const moments = await Promise.all(
      ids.map(async (id) => (await orders(`/v1/orders/${id}`)).body.createdAt as string),
    );
    const later = ids.filter((_, i) => (moments[i] ?? '') > middle.createdAt).reverse();
    const earlier = ids.filter((_, i) => (moments[i] ?? '') < middle.createdAt).reverse();
    expect(idsOf(await list(`?customerId=cust_filter&createdAfter=${at}`))).toEqual(later);
    expect(idsOf(await list(`?customerId=cust_filter&createdBefore=${at}`))).toEqual(earlier);
    expect(idsOf(await list(`?customerId=cust_filter&createdBefore=${at.toLowerCase()}`))).toEqual(earlier);
    expect(later.length + earlier.length).toBeGreaterThan(0);
    expect(
      idsOf(
        await list(
          '?customerId=cust_filter&createdAfter=1960-01-01T00:00:00Z&createdBefore=9999-12-31T23:59:59Z&status=PENDING&limit=1',
        ),
      ),
    ).toEqual([ids[1]]);
  });

  it('takes instants finer than milliseconds as what they are', async () => {
    const { body } = await orders(`/v1/orders/${await place('cust_fine')}`);
    const finer = body.createdAt.replace('Z', '5Z') as string; // half a millisecond after it
    expect((await list(`?customerId=cust_fine&createdBefore=${finer}`)).data).toHaveLength(1);
    expect((await list(`?customerId=cust_fine&createdAfter=${finer}`)).data).toHaveLength(0);
    const same = body.createdAt.replace('Z', '000Z') as string;
    expect((await list(`?customerId=cust_fine&createdBefore=${same}`)).data).toHaveLength(0);
    expect((await list(`?customerId=cust_fine&createdAfter=${same}`)).data).toHaveLength(0);
  });

  it('takes a cursor whatever the order of the filters', async () => {
    for (let i = 0; i < 3; i += 1) await place('cust_swap');
    const { links } = await list('?customerId=cust_swap&status=PENDING&limit=1');
    const cursor = new URL(links.next ?? '', service.url).searchParams.get('cursor');
    expect((await list(`?cursor=${cursor}&status=PENDING&customerId=cust_swap`)).data).toHaveLength(2);
  });

  it('takes time zones as what they are', async () => {
    const orderId = await place('cust_zone');
    const { body } = await orders(`/v1/orders/${orderId}`);
    const inIndia = new Date(Date.parse(body.createdAt) + 5.5 * 3_600_000).toISOString().replace('Z', '+05:30');
    const query = (moment: string) => `?customerId=cust_zone&createdBefore=${encodeURIComponent(moment)}`;
    expect((await list(query(inIndia))).data).toEqual([]);
    expect((await list(query(inIndia.replace('+05:30', '+05:29')))).data).toHaveLength(1);
  });

  it.each<[string, string]>([
    ['limit=0', 'limit'],
    ['limit=201', 'limit'],
    ['limit=', 'limit'],
    ['limit=5.5', 'limit'],
    ['limit=1e1', 'limit'],
    ['limit=5&limit=6', 'limit'],
    ['status=UNKNOWN', 'status'],
    ['status=PENDING&status=CONFIRMED', 'status'],
    ['customerId=', 'customerId'],
    ['customerId=%00', 'customerId'],
    [`customerId=${'x'.repeat(129)}`, 'customerId'],
    ['createdAfter=yesterday', 'createdAfter'],
    ['createdAfter=2026-13-01T00:00:00Z', 'createdAfter'],
    ['createdBefore=2026-01-01', 'createdBefore'],
    ['createdBefore=2026-02-30T00:00:00Z', 'createdBefore'],
    ['createdBefore=2026-02-20%2000:00:00Z', 'createdBefore'],
    ['toString=2', 'toString'],
    ['__proto__=2', '__proto__'],
    ['prototype=2', 'prototype'],
    ['cursor=abc', 'cursor'],
    ['cursor=', 'cursor'],
    ['page=2', 'page'],
  ])('refuses ?%s', async (query, field) => {
    const { status, body } = await orders(`/v1/orders?${query}`);
    expect({ status, code: body.error?.code }).toEqual({ status: 400, code: 'ORDER_VALIDATION_FAILED' });
    expect(body.error.details.map((detail: { field: string }) => detail.field)).toContain(field);
  });

  it('refuses a cursor that was changed, or that comes from another list or another tenant', async () => {
    for (let i = 0; i < 3; i += 1) await place('cust_cursor');
    const { links } = await list('?customerId=cust_cursor&limit=1');
    const cursor = new URL(links.next ?? '', service.url).searchParams.get('cursor') ?? '';
    const flipped = (cursor.startsWith('A') ? 'B' : 'A') + cursor.slice(1);
    for (const query of [
      `customerId=cust_cursor&cursor=${flipped}`,
      `customerId=cust_cursor&cursor=${cursor}x`,
      `customerId=cust_cursor&cursor=${cursor.slice(1)}`,
      `customerId=cust_many&cursor=${cursor}`,
      `cursor=${cursor}`,
    ]) {
      const { status, body } = await orders(`/v1/orders?${query}`);
      expect({ query, status, field: body.error?.details[0].field }).toEqual({ query, status: 400, field: 'cursor' });
    }
    expect((await foreign(`/v1/orders?customerId=cust_cursor&cursor=${cursor}`)).status).toBe(400);
    expect((await orders(`/v1/orders?customerId=cust_cursor&cursor=${cursor}`)).status).toBe(200);
  });

  describe('of large orders', () => {
    const items = Array.from({ length: 500 }, (_, n) => ({ sku: `${n}`.padEnd(64, 'x'), quantity: 1 }));

    beforeAll(async () => {
      const body = () => anOrder({ customerId: 'cust_large', items, metadata: { kept: true } });
      for (let i = 0; i < 25; i += 1) await orders('/v1/orders', { body: body() });
    });

    it('ends a page early, and goes on from there', async () => {
      const first = await list('?customerId=cust_large&limit=200');
      const rest = (await orders(first.links.next ?? '')).body as Page;
      expect(Buffer.byteLength(JSON.stringify(first.data))).toBeGreaterThan(900_000);
      expect(Buffer.byteLength(JSON.stringify(first.data))).toBeLessThan(1_200_000);
      expect(rest.links.next).toBeUndefined();
      expect(new Set([...idsOf(first), ...idsOf(rest)]).size).toBe(25);
      for (const order of first.data) expect(order).toMatchObject({ items, metadata: { kept: true } });
    });

    it('goes on behind those that are deleted while their page is read', async () => {
      const show = jest.spyOn(service.app.get(OrderStore, { strict: false }), 'show').mockResolvedValue(undefined);
      const first = await list('?customerId=cust_large&limit=200');
      show.mockRestore();
      const rest = (await orders(first.links.next ?? '')).body as Page;
      expect(first.data).toEqual([]);
      expect(rest.data.length).toBeGreaterThan(0);
      expect(rest.links.next).toBeUndefined();
    });
  });

  it('gives each tenant its own when both ask for the same at once', async () => {
    const mine = await place('cust_both');
    const { body } = await foreign('/v1/orders', { body: anOrder({ customerId: 'cust_both' }) });
    const pages = await Promise.all(
      [orders, reporting, foreign, orders].map(
        async (ask) => (await ask('/v1/orders?customerId=cust_both')).body as Page,
      ),
    );
    expect(pages.map(idsOf)).toEqual([[mine], [mine], [body.orderId], [mine]]);
  });

  it('shows an order that was placed before it was asked, whoever asks at the time', async () => {
    const crowd = Array.from({ length: 20 }, async () => {
      for (let n = 0; n < 10; n += 1) await orders('/v1/orders?customerId=cust_now');
    });
    const asked = async () => {
      for (let n = 0; n < 10; n += 1) {
        const placed = await place('cust_now');
        expect(idsOf((await orders('/v1/orders?customerId=cust_now')).body as Page)).toContain(placed);
      }
    };
    await Promise.all([...crowd, asked()]);
  });
});
