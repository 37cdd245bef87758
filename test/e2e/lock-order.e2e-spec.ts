import { Database } from '@platform/database';
import { keyDigest } from '@platform/idempotency';
import { EventConsumer } from '@platform/messaging';
import { newContext, runInContext } from '@platform/request-context';
import { Client } from 'pg';
import { toOrderId, toOrderUuid } from '../../apps/order-service/src/orders/order-id';
import { OrderLifecycleService } from '../../apps/order-service/src/orders/order-lifecycle.service';
import { NEW_ORDER, OrderStore } from '../../apps/order-service/src/orders/order-store';
import { OrdersService } from '../../apps/order-service/src/orders/orders.service';
import { PaymentStore } from '../../apps/order-service/src/payments/payment-store';
import { type Api, anOrder, api, fetchToken } from '../support/client';
import { untilLockIsAwaited } from '../support/lock-wait';
import { startService, type TestService } from '../support/service';

/** What is written together must lock its rows in one order, or two processes would lock each other out. */
describe('Of two rows that are written together, given the wrong way round, the second is free while the first is held', () => {
  let service: TestService;
  let orders: Api;

  beforeAll(async () => {
    service = await startService({}, { isPatient: true });
    orders = api(service.url, await fetchToken('order-orchestrator'));
  });
  afterAll(() => service.stop());

  const a = <T>(type: new (...args: never[]) => T) => service.app.get<T>(type, { strict: false });

  /** @param lock locks one of the two, in another transaction; it fails when somebody else has it */
  async function expectOrder<Row>(
    [first, second]: readonly [Row, Row],
    lock: (holder: Client, row: Row) => Promise<unknown>,
    write: (rows: readonly Row[]) => Promise<unknown>,
    { database } = service,
  ): Promise<void> {
    const holder = new Client(database.superuserUrl);
    await holder.connect();
    try {
      await holder.query("BEGIN; SET LOCAL lock_timeout = '50ms'");
      await lock(holder, first);
      const written = write([second, first]);
      written.catch(() => undefined);
      await untilLockIsAwaited(database);
      await lock(holder, second);
      await holder.query('ROLLBACK');
      await written;
    } finally {
      await holder.end();
    }
  }

  /** @returns the UUIDs of two orders, in their order */
  async function place(): Promise<[string, string]> {
    const answers = [await orders('/v1/orders', { body: anOrder() }), await orders('/v1/orders', { body: anOrder() })];
    const [low = '', high = ''] = answers.map(({ body }) => toOrderUuid(body.orderId as string)).sort();
    return [low, high];
  }
  const lockOrder = (holder: Client, uuid: string) =>
    holder.query('SELECT FROM orders WHERE id = $1 FOR UPDATE', [uuid]);

  it('of orders that change', async () => {
    await expectOrder(await place(), lockOrder, async (uuids) => {
      const known = await Promise.all(uuids.map((uuid) => a(OrderStore).findForAnyTenant(uuid)));
      const lifecycle = a(OrderLifecycleService);
      await Promise.all(known.flatMap((order) => (order ? [lifecycle.reject(order, 'payment_unknown')] : [])));
    });
  });

  it('of orders that are to stay pending', async () => {
    const effect = { name: 'nothing', statement: 'SELECT id FROM pending' };
    await expectOrder(await place(), lockOrder, (uuids) =>
      Promise.all(uuids.map((uuid) => a(OrderStore).whilePending(uuid, effect))),
    );
  });

  it('of the keys of new orders', async () => {
    const principal = { tenantId: 'acme', clientId: 'order-orchestrator', scopes: new Set<string>() };
    const [first = '', second = ''] = ['key-number-one', 'key-number-two'].sort((one, other) =>
      Buffer.compare(keyDigest(one), keyDigest(other)),
    );
    const lock = (holder: Client, key: string) =>
      holder.query(
        `INSERT INTO idempotency_keys (tenant_id, client_id, route, key, fingerprint, response_body)
         VALUES ($1, $2, $3, $4, '', '')`,
        [principal.tenantId, principal.clientId, NEW_ORDER.route, keyDigest(key)],
      );
    await expectOrder([first, second], lock, (keys) =>
      runInContext({ ...newContext(), principal }, () =>
        Promise.all(keys.map((key) => a(OrdersService).create(principal, key, anOrder()))),
      ),
    );
  });

  it('of payments', async () => {
    const lock = (holder: Client, uuid: string) => holder.query('INSERT INTO payments (order_id) VALUES ($1)', [uuid]);
    await expectOrder(await place(), lock, (uuids) =>
      a(Database).inTransaction((tx) => new PaymentStore().add(tx, uuids.map(toOrderId), 'none', [])),
    );
  });

  it('of events that are consumed', async () => {
    const worker = await startService({ ROLES: 'worker' }, { isPatient: true });
    const consumer = worker.app.get(EventConsumer, { strict: false });
    const lock = (holder: Client, id: string) =>
      holder.query("INSERT INTO inbox (consumer, event_id) VALUES ('test', $1)", [id]);
    const consume = (id: string) => {
      const headers = { ce_id: id, ce_type: 'test.told', ce_subject: id };
      const context = {
        getMessage: () => ({ headers, value: Buffer.from('{}'), offset: '0' }),
        getTopic: () => 'orders.events',
        getPartition: () => 0,
        getHeartbeat: () => async () => undefined,
      };
      return consumer.consume('test', context as never, { 'test.told': async () => undefined });
    };
    await expectOrder(['a', 'b'], lock, (ids) => Promise.all(ids.map(consume)), worker).finally(() => worker.stop());
  });
});
