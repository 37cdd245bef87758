import { Database } from '@platform/database';
import { Client } from 'pg';
import { toOrderUuid } from '../../apps/order-service/src/orders/order-id';
import { type Order, OrderLifecycleService } from '../../apps/order-service/src/orders/order-lifecycle.service';
import { OrderStore } from '../../apps/order-service/src/orders/order-store';
import { type Api, anOrder, api, apiOnce, fetchToken, metric } from '../support/client';
import { startService, type TestService } from '../support/service';
import { inSomeRound } from '../support/until';

describe('POST /v1/orders/{orderId}/cancel', () => {
  let service: TestService;
  let orders: Api;
  let once: Api;
  let lifecycle: OrderLifecycleService;

  beforeAll(async () => {
    service = await startService();
    const token = await fetchToken('order-orchestrator');
    orders = api(service.url, token);
    once = apiOnce(service.url, token);
    lifecycle = service.app.get(OrderLifecycleService, { strict: false });
  });
  afterAll(() => service.stop());

  async function place(): Promise<string> {
    return (await orders('/v1/orders', { body: anOrder() })).body.orderId as string;
  }
  const cancel = (orderId: string, headers: Record<string, string> = {}, body?: unknown, client = orders) =>
    client(`/v1/orders/${orderId}/cancel`, { method: 'POST', headers, body });
  const cancelOnce = (orderId: string) => cancel(orderId, {}, undefined, once);
  const get = async (orderId: string) => (await orders(`/v1/orders/${orderId}`)).body;
  const eventsOf = (orderId: string) =>
    service.database.query<{ type: string; sequence: number; payload: Record<string, unknown>; request_id: string }>(
      'SELECT type, sequence, payload, request_id FROM outbox WHERE aggregateid = $1 ORDER BY position',
      [orderId],
    );
  const known = async (orderId: string): Promise<Order> => {
    const order = await service.app.get(OrderStore, { strict: false }).findForAnyTenant(toOrderUuid(orderId));
    if (!order) throw new Error('no such order');
    return order;
  };
  const authorized = { paymentId: 'pay_1', status: 'AUTHORIZED' } as const;

  it('answers with the whole order, cancelled, and its new ETag', async () => {
    const orderId = await place();
    const before = await get(orderId);
    const began = Date.now();
    const { status, headers, body } = await cancel(orderId);
    expect(status).toBe(200);
    expect(headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(body).toEqual({
      ...before,
      status: 'CANCELLED',
      reason: 'cancelled_by_client',
      version: 2,
      updatedAt: expect.any(String),
    });
    expect(Date.parse(body.updatedAt)).toBeGreaterThanOrEqual(began);
    expect(headers.get('etag')).toBe('"2"');
    expect(await get(orderId)).toEqual(body);
    expect((await orders('/v1/orders?status=CANCELLED&limit=1')).body.data[0]).toEqual(body);
  });

  it('tells of it once, with the next sequence, the whole order and a reason', async () => {
    const orderId = await place();
    const { links: _links, ...cancelled } = (await cancel(orderId, { 'x-request-id': 'the-cancel' })).body;
    const [, event, ...others] = await eventsOf(orderId);
    expect(event).toEqual({
      type: 'order.cancelled',
      sequence: 2,
      payload: cancelled,
      request_id: 'the-cancel',
    });
    expect(others).toEqual([]);
  });

  it('takes null for no body, as clients of some generators send it', async () => {
    expect((await cancel(await place(), {}, 'null')).status).toBe(200);
  });

  it('shows the reason that the client gives, and hands it on', async () => {
    const orderId = await place();
    const { status, body } = await cancel(orderId, {}, { reason: 'out of "stock"' });
    expect([status, body.reason]).toEqual([200, 'out of "stock"']);
    expect(await get(orderId)).toEqual(body);
    expect((await eventsOf(orderId))[1]?.payload['reason']).toBe('out of "stock"');
    expect((await cancel(orderId, {}, { reason: 'another' })).body).toEqual(body);
  });

  it('answers 200 again for a cancelled order, and changes nothing, whatever ETag the client knows', async () => {
    const orderId = await place();
    const first = await cancel(orderId, { 'if-match': '"1"' });
    for (const etag of ['*', '"1"', '"2"']) {
      const again = await cancel(orderId, { 'if-match': etag });
      expect([again.status, again.text]).toEqual([200, first.text]);
    }
    expect(await eventsOf(orderId)).toHaveLength(2);
  });

  it('cancels a confirmed order, and keeps showing its payment', async () => {
    const orderId = await place();
    await lifecycle.applyPayment(await known(orderId), authorized);
    expect(await get(orderId)).toMatchObject({ status: 'CONFIRMED', payment: authorized });
    expect((await cancel(orderId)).body).toMatchObject({ status: 'CANCELLED', version: 3, payment: authorized });
    expect((await eventsOf(orderId)).map(({ type }) => type)).toEqual([
      'order.created',
      'order.confirmed',
      'order.cancelled',
    ]);
  });

  it('refuses for a rejected order', async () => {
    const orderId = await place();
    await lifecycle.reject(await known(orderId), 'payment_unknown');
    for (const headers of [{}, { 'if-match': '"1"' }]) {
      const { status, body } = await cancel(orderId, headers as Record<string, string>);
      expect([status, body.error.code]).toEqual([409, 'ORDER_STATUS_CONFLICT']);
    }
    expect(await get(orderId)).toMatchObject({ status: 'REJECTED', reason: 'payment_unknown', version: 2 });
    expect(await eventsOf(orderId)).toHaveLength(2);
  });

  it.each(['"1"', '"7", "1"', '*'])('cancels when If-Match is %s and the version is 1', async (etag) => {
    expect((await cancel(await place(), { 'if-match': etag })).status).toBe(200);
  });

  it.each(['"2"', 'W/"1"', '1', '"1x"'])('answers 412 when If-Match is %s and the version is 1', async (etag) => {
    const orderId = await place();
    const { status, body } = await cancel(orderId, { 'if-match': etag });
    expect([status, body.error.code]).toEqual([412, 'PRECONDITION_FAILED']);
    expect((await get(orderId)).status).toBe('PENDING');
  });

  it('answers 412 when the order was confirmed since the client looked', async () => {
    const orderId = await place();
    const seen = (await orders(`/v1/orders/${orderId}`)).headers.get('etag') ?? '';
    await lifecycle.applyPayment(await known(orderId), authorized);
    expect((await cancel(orderId, { 'if-match': seen })).status).toBe(412);
    expect((await get(orderId)).status).toBe('CONFIRMED');
  });

  it('cancels once when many ask at the same time', async () => {
    const orderId = await place();
    const answers = await Promise.all(Array.from({ length: 20 }, () => cancel(orderId)));
    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
    expect(answers[0]?.status).toBe(200);
    expect(await eventsOf(orderId)).toHaveLength(2);
  });

  it("answers 404 for another tenant's order, and leaves it as it is", async () => {
    const orderId = await place();
    const foreign = api(service.url, await fetchToken('other-tenant'));
    const { status, body } = await foreign(`/v1/orders/${orderId}/cancel`, { method: 'POST' });
    expect([status, body.error.code]).toEqual([404, 'ORDER_NOT_FOUND']);
    expect((await get(orderId)).status).toBe('PENDING');
    for (const id of ['ord_01jfw9v6k3f0qv8w2m4x5y6z7a', 'nothing']) expect((await cancel(id)).status).toBe(404);
  });

  it('asks for the scope orders:write', async () => {
    const reporting = api(service.url, await fetchToken('reporting'));
    const { status, body } = await reporting(`/v1/orders/${await place()}/cancel`, { method: 'POST' });
    expect([status, body.error.code]).toEqual([403, 'INSUFFICIENT_SCOPE']);
  });

  it.each<[string, unknown]>([
    ['an unknown field', { why: 'x' }],
    ['an empty reason', { reason: '' }],
    ['a reason that is no text', { reason: 7 }],
    ['a reason that is too long', { reason: 'x'.repeat(201) }],
    ['a list', []],
  ])('refuses %s in the body', async (_, body) => {
    const orderId = await place();
    const { status, body: refusal } = await cancel(orderId, {}, body);
    expect([status, refusal.error.code]).toEqual([400, 'ORDER_VALIDATION_FAILED']);
    expect((await get(orderId)).status).toBe('PENDING');
  });

  it('counts what moved', async () => {
    const count = () => metric(service.url, 'order_transitions_total{to="CANCELLED"}');
    const before = await count();
    const orderId = await place();
    await cancel(orderId);
    await cancel(orderId);
    await lifecycle.applyPayment(await known(orderId), authorized); // comes too late to move it
    expect(await count()).toBe(before + 1);
  });

  describe('while somebody holds on to another order', () => {
    let holder: Client;

    beforeEach(async () => {
      holder = new Client(service.database.superuserUrl);
      await holder.connect();
      await holder.query('BEGIN');
    });
    afterEach(() => holder.end());

    const hold = (orderIds: readonly string[]) =>
      holder.query('SELECT FROM orders WHERE id = ANY($1) FOR UPDATE', [orderIds.map((id) => toOrderUuid(id))]);

    it('cancels all but that one, for which the client is to try again', async () => {
      await inSomeRound(async () => {
        const held = [await place(), await place()];
        const free = await Promise.all(Array.from({ length: 30 }, place));
        await hold(held);
        const answers = await Promise.all([...held, ...free].map(cancelOnce));
        await holder.query('ROLLBACK; BEGIN');
        expect(answers.map(({ status }) => status)).toEqual([503, 503, ...free.map(() => 200)]);
        expect(answers[0]?.headers.get('retry-after')).toBe('1');
        for (const orderId of held) expect((await cancel(orderId)).status).toBe(200);
        for (const orderId of [...held, ...free]) expect(await eventsOf(orderId)).toHaveLength(2);
      });
    });

    it('tries no order by itself when it is the table that is locked', async () => {
      const orderIds = await Promise.all(Array.from({ length: 10 }, place));
      await holder.query('LOCK TABLE orders IN EXCLUSIVE MODE'); // which lets others read
      const prepared = jest.spyOn(service.app.get(Database), 'prepared');
      const answers = await Promise.all(orderIds.map(cancelOnce));
      const writes = prepared.mock.calls.filter(([name]) => name.startsWith('update-orders'));
      prepared.mockRestore();
      expect(answers.map(({ status }) => status)).toEqual(orderIds.map(() => 503));
      expect(writes.length).toBeGreaterThan(0);
      expect(writes.length).toBeLessThanOrEqual(4); // of two batches at once, each with a second try
    });

    it('has its effect on the orders beside it, and does not take it for one that is no longer pending', async () => {
      const [held = '', cancelled = '', ...free] = await Promise.all(Array.from({ length: 10 }, place));
      await cancel(cancelled);
      await hold([held]);
      const effect = { name: 'nothing', statement: 'SELECT id FROM pending' };
      const orderIds = [held, ...free];
      const found = await Promise.allSettled(orderIds.map((orderId) => lifecycle.whilePending(orderId, effect)));
      expect(found[0]).toMatchObject({ status: 'rejected', reason: { code: 'SERVICE_UNAVAILABLE' } });
      expect(found.slice(1)).toEqual(
        free.map((orderId) => ({
          status: 'fulfilled',
          value: expect.objectContaining({ id: toOrderUuid(orderId) }) as Order,
        })),
      );
      await expect(lifecycle.whilePending(cancelled, effect)).resolves.toBeUndefined();
    });
  });
});
