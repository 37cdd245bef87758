import { Controller, Get, Query } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { RequireScopes } from '@platform/auth';
import { Database, openDirectConnection } from '@platform/database';
import { newContext, runInContext } from '@platform/request-context';
import { Query as PgQuery } from 'pg';
import { DataSource, type EntityManager } from 'typeorm';
import { schema } from '../../apps/order-service/src/database/schema';
import { OrderStore } from '../../apps/order-service/src/orders/order-store';
import { Order } from '../../apps/order-service/src/orders/order.entity';
import { DUE_PAYMENT, markAsked } from '../../apps/order-service/src/payments/payment-store';
import { type Api, anOrder, api, fetchToken } from '../support/client';
import { startService, type TestService } from '../support/service';

/** The connection that TypeORM uses, as a store could ask for it. */
interface PgClient {
  query(...args: unknown[]): unknown;
}

const FORGOTTEN = 'SELECT id, customer_id FROM orders';
const ID = '019a0000-0000-7000-8000-000000000000';

function withClient<T>(manager: EntityManager, use: (client: PgClient) => Promise<T>): Promise<T> {
  return manager.transaction(async (tx) => use((await tx.queryRunner?.connect()) as PgClient));
}

/** Stores that forget the tenant, each in its own way. */
const mistakes: Record<string, (manager: EntityManager) => Promise<unknown>> = {
  'SELECT in SQL': (manager) => manager.query(FORGOTTEN),
  'SELECT with the tenant as another parameter': (manager) =>
    manager.query('SELECT tenant_id FROM orders WHERE customer_id = $1', ['globex']),
  'UPDATE in SQL': (manager) => manager.query("UPDATE orders SET reason = 'x'"),
  'DELETE in SQL': (manager) => manager.query('DELETE FROM idempotency_keys'),
  'INSERT for another tenant': (manager) =>
    manager.query(
      `INSERT INTO idempotency_keys (tenant_id, client_id, route, key, fingerprint, response_body)
       VALUES ($1, 'c', 'r', 'k', '', '')`,
      ['acme'],
    ),
  TRUNCATE: (manager) => manager.query('TRUNCATE orders CASCADE'),
  find: (manager) => manager.find(Order),
  findOneBy: (manager) => manager.findOneBy(Order, { id: ID }),
  'findOneBy of another tenant': (manager) => manager.findOneBy(Order, { tenantId: 'acme' }),
  count: (manager) => manager.count(Order),
  update: (manager) => manager.update(Order, { id: ID }, { reason: 'x' }),
  delete: (manager) => manager.delete(Order, { id: ID }),
  'the query builder': (manager) => manager.createQueryBuilder(Order, 'o').where('o.id > :id', { id: ID }).getMany(),
  'the query builder with an OR': (manager) =>
    manager.createQueryBuilder(Order, 'o').where('o.tenant_id = :t OR true', { t: 'globex' }).getMany(),
  'a transaction': (manager) => manager.transaction((tx) => tx.query(FORGOTTEN)),
  'a raw connection': (manager) => withClient(manager, async (client) => client.query(FORGOTTEN)),
  'a raw connection with an object': (manager) =>
    withClient(manager, async (client) => client.query({ text: FORGOTTEN, rowMode: 'array' })),
  'a raw connection with a prepared statement': (manager) =>
    withClient(manager, async (client) => client.query({ name: 'prepared' })),
  'a raw connection with a callback': (manager) =>
    withClient(
      manager,
      (client) =>
        new Promise((resolve, reject) => {
          client.query(FORGOTTEN, (error: Error | undefined, rows: unknown) => (error ? reject(error) : resolve(rows)));
        }),
    ),
  'a raw connection with a callback after values': (manager) =>
    withClient(
      manager,
      (client) =>
        new Promise((resolve, reject) => {
          const done = (error: Error | undefined, rows: unknown) => (error ? reject(error) : resolve(rows));
          client.query(`${FORGOTTEN} WHERE customer_id = $1`, ['globex'], done);
        }),
    ),
  'a raw connection with a query of its own': (manager) =>
    withClient(manager, async (client) => client.query(new PgQuery(FORGOTTEN))),
  'the pool': (manager) =>
    (manager.connection.driver as unknown as { master: { query(text: string): Promise<unknown> } }).master.query(
      FORGOTTEN,
    ),
};

@Controller('mistakes')
class MistakesController {
  static lastError: unknown;

  constructor(
    private readonly dataSource: DataSource,
    private readonly database: Database,
    private readonly modules: ModuleRef,
  ) {}

  @Get()
  @RequireScopes('orders:read')
  async make(@Query('kind') kind: string): Promise<unknown> {
    try {
      const store = this.modules.get(OrderStore, { strict: false });
      if (kind === 'unguarded read') return await store.findForAnyTenant(ID);
      if (kind === 'unguarded read of many') return await store.findWith(ID, DUE_PAYMENT);
      if (kind === 'unguarded effect') return await store.whilePending(ID, markAsked(86_400_000));
      const mistake = mistakes[kind];
      if (!mistake) throw new Error('no such mistake');
      return await this.database.run(mistake);
    } catch (error) {
      MistakesController.lastError = error;
      throw error;
    }
  }

  /** Work for several clients, which this one's request happens to set off. */
  @Get('batch')
  @RequireScopes('orders:read')
  async batch(): Promise<unknown> {
    const rows = await runInContext(newContext(), () => this.dataSource.query<unknown[]>(FORGOTTEN));
    return { rows: rows.length };
  }
}

describe('The tenant wall', () => {
  let service: TestService;
  const victim = anOrder({ customerId: 'cust_of_acme' });

  beforeAll(async () => {
    service = await startService(
      { DATABASE_POOL_SIZE: '2' },
      { beside: { controllers: [MistakesController] }, isPatient: true },
    );
    const acme = api(service.url, await fetchToken('order-orchestrator'));
    expect((await acme('/v1/orders', { body: victim })).status).toBe(201);
  });
  afterAll(() => service.stop());

  const rows = async () =>
    JSON.stringify([
      await service.database.query('SELECT * FROM orders'),
      await service.database.query('SELECT * FROM idempotency_keys'),
    ]);

  it.each([...Object.keys(mistakes), 'unguarded read', 'unguarded read of many', 'unguarded effect'])(
    'turns a forgotten tenant into a 500: %s',
    async (kind) => {
      const before = await rows();
      const globex = api(service.url, await fetchToken('other-tenant'));
      const { status, body, text } = await globex(`/mistakes?kind=${encodeURIComponent(kind)}`);
      expect([status, body.error.code]).toEqual([500, 'INTERNAL_ERROR']);
      expect(text).not.toMatch(/tenant|orders|SELECT|statement|cust_of_acme/);
      expect(String(MistakesController.lastError)).toMatch(
        /A statement (was refused that|without a text was refused|for any tenant was refused)/,
      );
      expect(await rows()).toBe(before);
    },
  );

  it("lets work for several clients pass outside of any client's context", async () => {
    const globex = api(service.url, await fetchToken('other-tenant'));
    expect((await globex('/mistakes/batch')).body).toEqual({ rows: 1 });
  });

  it('asks for the right tenant also where requests of two wait for the same few connections', async () => {
    const clients = await Promise.all(
      ['order-orchestrator', 'other-tenant'].map(async (client) => api(service.url, await fetchToken(client))),
    );
    const statuses = await Promise.all(
      Array.from({ length: 30 }, async (_, turn) => {
        const client = clients[turn % 2] as Api;
        const order = anOrder();
        const path = `/v1/orders/${(await client('/v1/orders', { body: order })).body.orderId}`;
        const cancelled = await client(`${path}/cancel`, { method: 'POST' });
        return [cancelled.status, (await client(path)).status];
      }),
    );
    expect(new Set(statuses.flat())).toEqual(new Set([200]));
  });

  it('gives no direct connection to work for a client', async () => {
    const principal = { clientId: 'a', tenantId: 'acme', scopes: new Set<string>() };
    const ask = () => openDirectConnection(service.config, 'test', 0);
    await expect(runInContext({ ...newContext(), principal }, ask)).rejects.toThrow('A direct connection is for');
  });

  it('knows every table that has a tenant', async () => {
    const tables = await service.database.query<{ name: string }>(
      `SELECT table_name AS name FROM information_schema.columns
       WHERE column_name = 'tenant_id' AND table_schema NOT IN ('pg_catalog', 'information_schema')`,
    );
    expect(tables.map(({ name }) => name).sort()).toEqual([...schema.tenantTables].sort());
  });
});
