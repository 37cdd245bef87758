import { readdirSync, readFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { DataSource } from 'typeorm';
import { schema } from '../../apps/order-service/src/database/schema';
import { toOrderUuid } from '../../apps/order-service/src/orders/order-id';
import { anOrder, type Api, api, fetchToken, placeOrder } from '../support/client';
import { startService, type TestService } from '../support/service';
import { until } from '../support/until';
import { CreateRefunds1796100000000 } from '../refunds/1796100000000-create-refunds';
import { RefundsWorkerModule } from '../refunds/refunds-worker.module';
import { RefundsModule } from '../refunds/refunds.module';

const FEATURE = 'test/refunds';
const GUIDE = readFileSync('docs/extending.md', 'utf8');

/** The feature that docs/extending.md builds. */
describe('A feature of a team', () => {
  let service: TestService;
  let orders: Api;

  beforeAll(async () => {
    schema.tenantTables.push('refunds'); // of which the wall is built
    service = await startService(
      { ROLES: 'api,worker' },
      { beside: { imports: [RefundsModule, RefundsWorkerModule] } },
    );
    const { superuserUrl: url } = service.database;
    const owner = new DataSource({ type: 'postgres', url, migrations: [CreateRefunds1796100000000] });
    await owner.initialize();
    await owner.runMigrations();
    await owner.destroy();
    const privileges = /^\+ {2}refunds: '(.+)',$/m.exec(GUIDE)?.[1] ?? 'none';
    await service.database.query(`GRANT ${privileges} ON refunds TO order_service`);
    orders = api(service.url, await fetchToken('order-orchestrator'));
  });
  afterAll(() => service.stop());

  const refund = (orderId: string, amount = '1.00', key: string = randomUUID(), reason?: string) =>
    orders(`/v1/orders/${orderId}/refunds`, { body: { amount, reason }, headers: { 'idempotency-key': key } });
  const paid = () => service.database.query('SELECT id FROM refunds WHERE paid_at IS NOT NULL');

  async function placeConfirmed(order = anOrder()): Promise<string> {
    const { orderId } = await placeOrder(orders, order);
    const statusOf = async () => (await orders(`/v1/orders/${orderId}`)).body.status as string;
    await until('the payment', async () => (await statusOf()) === 'CONFIRMED');
    return orderId;
  }

  it('does its work once, however often it is asked for, from the route to the job behind its event', async () => {
    const [orderId, key] = [await placeConfirmed(), randomUUID()];
    const first = await refund(orderId, '1.00', key);
    expect(first).toMatchObject({ status: 201, body: { refundId: expect.stringMatching(/^rfd_/), orderId } });
    const again = await refund(orderId, '1.00', key);
    expect([again.status, again.text, again.headers.get('idempotent-replayed')]).toEqual([201, first.text, 'true']);
    await until('the job', async () => (await paid()).length === 1);
    expect(await service.database.query('SELECT amount FROM refunds')).toEqual([{ amount: '1.00' }]);
    const compliance = api(service.url, await fetchToken('compliance'));
    const { body } = await compliance(`/v1/audit-events?orderId=${orderId}`);
    expect(body.data).toContainEqual(expect.objectContaining({ action: 'refund.create', outcome: 'succeeded' }));
  });

  it('refuses what it must, in the shape of all errors', async () => {
    const [orderId, key] = [await placeConfirmed(), randomUUID()];
    await refund(orderId, '1.00', key);
    const { body: declined } = await orders('/v1/orders', { body: anOrder({ customerId: 'cust_declined' }) });
    const stranger = api(service.url, await fetchToken('other-tenant'));
    const answers = [
      await refund(orderId, '2.00', key),
      await refund(await placeConfirmed(), '1.00', key),
      await refund(orderId, 'all of it'),
      await refund(declined.orderId as string),
      await stranger(`/v1/orders/${orderId}/refunds`, { body: { amount: '1.00', idempotencyKey: randomUUID() } }),
    ];
    expect(answers.map(({ status, body }) => [status, body.error.code])).toEqual([
      [409, 'IDEMPOTENCY_KEY_REUSED'],
      [409, 'IDEMPOTENCY_KEY_REUSED'],
      [400, 'VALIDATION_FAILED'],
      [409, 'ORDER_STATUS_CONFLICT'],
      [404, 'ORDER_NOT_FOUND'],
    ]);
  });

  it('forgets a reason with its customer, and stores none afterwards', async () => {
    const customerId = `cust_${randomUUID()}`;
    const orderId = await placeConfirmed(anOrder({ customerId }));
    const reasons = async () => {
      const text = 'SELECT reason FROM refunds WHERE order_id = $1 ORDER BY id';
      const rows = await service.database.query<{ reason: string | null }>(text, [toOrderUuid(orderId)]);
      return rows.map(({ reason }) => reason);
    };
    await refund(orderId, '1.00', randomUUID(), 'asked for by Ada');
    expect(await reasons()).toEqual(['asked for by Ada']);
    const compliance = api(service.url, await fetchToken('compliance'));
    expect((await compliance(`/v1/customers/${customerId}/erasure`, { method: 'POST' })).status).toBe(200);
    await until('the handler', async () => (await reasons())[0] === null);
    expect((await refund(orderId, '1.00', randomUUID(), 'asked for by Ada')).status).toBe(201);
    expect(await reasons()).toEqual([null, null]);
  });

  it('is what docs/extending.md says', () => {
    const lines = (text: string) => text.split('\n').map((line) => line.trim());
    const code = lines(
      readdirSync(FEATURE)
        .map((file) => readFileSync(`${FEATURE}/${file}`, 'utf8'))
        .join('\n'),
    ).join('\n');
    const examples = GUIDE.matchAll(/```ts\n(.*?)```/gs);
    const shown = Array.from(examples, ([, text]) =>
      lines(text!)
        .filter((line) => !line.startsWith('import '))
        .join('\n')
        .trim(),
    );
    expect(shown).toHaveLength(5);
    for (const example of shown) expect(code).toContain(example);
  });
});
