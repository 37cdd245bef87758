import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { RunningServer } from '../../apps/sandbox/src/listen';
import { startPaymentApi } from '../../apps/sandbox/src/payment-api';
import { api, apiOnce } from '../support/client';
import { until } from '../support/until';

describe("The sandbox's payment API", () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'order-payments-'));
  const file = path.join(directory, 'payments.jsonl');
  let server: RunningServer;
  let orders = 0;

  beforeAll(async () => {
    server = await startPaymentApi(0, file);
  });
  afterAll(async () => {
    await server.stop();
    rmSync(directory, { recursive: true });
  });

  const pay = (customerId: string, orderId: string, key = `key-of-${orderId}`) =>
    apiOnce(server.url)('/v1/payments', {
      body: { orderId, customerId, amount: { currency: 'USD', value: '1.00' } },
      headers: { 'idempotency-key': key },
    });
  const anOrderId = () => `ord_${(orders += 1)}`;
  const held = async (orderId: string) => (await api(server.url)(`/v1/payments?orderId=${orderId}`)).body.data;

  it('authorises, and never charges twice for one key', async () => {
    const orderId = anOrderId();
    const answers = await Promise.all([1, 2, 3].map(() => pay('cust_123', orderId)));
    for (const { status, body } of answers) {
      expect([status, body]).toEqual([201, { paymentId: answers[0]?.body.paymentId, status: 'AUTHORIZED' }]);
    }
    expect(await held(orderId)).toHaveLength(1);
    expect((await pay('cust_123', anOrderId(), `key-of-${orderId}`)).status).toBe(409);
  });

  it('declines cust_declined, with a reason', async () => {
    const { status, body } = await pay('cust_declined', anOrderId());
    expect([status, body.status, body.reason]).toEqual([201, 'DECLINED', 'insufficient_funds']);
  });

  it('answers cust_slow after 5 s, having charged', async () => {
    const orderId = anOrderId();
    const start = performance.now();
    const answer = pay('cust_slow', orderId);
    await until('the charge', async () => (await held(orderId)).length === 1, 4_000);
    expect((await answer).body.status).toBe('AUTHORIZED');
    expect(performance.now() - start).toBeGreaterThan(4_900);
    const again = performance.now();
    expect((await pay('cust_slow', orderId)).body).toEqual((await answer).body);
    expect(performance.now() - again).toBeLessThan(1_000);
  });

  it('fails twice with 503 for cust_flaky and then works, for each order', async () => {
    for (const orderId of [anOrderId(), anOrderId()]) {
      const statuses: number[] = [];
      for (let i = 0; i < 4; i += 1) statuses.push((await pay('cust_flaky', orderId)).status);
      expect(statuses).toEqual([503, 503, 201, 201]);
      expect(await held(orderId)).toHaveLength(1);
    }
  });

  it('always fails with 503 for cust_down', async () => {
    const orderId = anOrderId();
    for (let i = 0; i < 4; i += 1) expect((await pay('cust_down', orderId)).status).toBe(503);
    expect(await held(orderId)).toEqual([]);
  });

  it('voids an authorised payment, again and again, and answers its key as before', async () => {
    const orderId = anOrderId();
    const { body: first } = await pay('cust_123', orderId);
    const { paymentId } = first;
    for (let i = 0; i < 2; i += 1) {
      const { status, body } = await api(server.url)(`/v1/payments/${paymentId}/void`, { method: 'POST' });
      expect([status, body]).toEqual([200, { paymentId, status: 'VOIDED' }]);
    }
    expect((await pay('cust_123', orderId)).body).toEqual(first);
    expect((await held(orderId))[0].status).toBe('VOIDED');
    expect((await api(server.url)('/v1/payments/nope/void', { method: 'POST' })).status).toBe(404);
  });

  it('refuses a payment without a key', async () => {
    const { status } = await api(server.url)('/v1/payments', { body: { orderId: 'x' } });
    expect(status).toBe(400);
  });

  it('remembers over restarts', async () => {
    const orderId = anOrderId();
    const before = (await pay('cust_123', orderId)).body;
    await server.stop();
    server = await startPaymentApi(0, file);
    expect((await pay('cust_123', orderId)).body).toEqual(before);
    expect(await held(orderId)).toHaveLength(1);
  });
});
