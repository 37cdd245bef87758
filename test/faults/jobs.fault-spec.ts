import { setTimeout as delay } from 'node:timers/promises';
import { type ServiceProcess, spawnService } from '../support/child';
import { anOrder, type Api, api, fetchToken } from '../support/client';
import { createDatabase, type TestDatabase } from '../support/database';
import { FaultyProxy } from '../support/faulty-proxy';
import { until } from '../support/until';

/** Between the orders that a fault has to meet: thousands would take longer to pay than the faults last. */
const PAUSE_MS = 250;

/** What the job runner loses by itself, while everything else has its database. */
describe('A job runner behind a faulty proxy to its database', () => {
  let database: TestDatabase;
  let proxy: FaultyProxy;
  let service: ServiceProcess;
  let orders: Api;
  let placed: number;

  beforeEach(async () => {
    placed = 0;
    database = await createDatabase();
    proxy = await FaultyProxy.to(database.url);
    service = await spawnService({ DATABASE_URL: database.url, DATABASE_DIRECT_URL: proxy.url, LOG_LEVEL: 'warn' });
    orders = api(service.url, await fetchToken('order-orchestrator'));
  });

  afterEach(async () => {
    await service.end('SIGKILL');
    proxy.stop();
    await database.drop();
  });

  async function place(customerId = 'cust_123'): Promise<void> {
    expect((await orders('/v1/orders', { body: anOrder({ customerId }) })).status).toBe(201);
    placed += 1;
  }

  const placeSome = () => Promise.all(Array.from({ length: 20 }, () => place()));

  /** Places orders until the faults have happened, and some more behind them. */
  async function placeUntil(isOver: () => boolean): Promise<void> {
    await until('the faults', async () => {
      await placeSome();
      await delay(PAUSE_MS);
      return isOver();
    });
    await placeSome();
  }

  /** By the database, as the service refuses some of a thousand questions at once. */
  const allPaid = () =>
    until('the payment of all', async () => {
      const [row] = await database.query<{ paid: number }>(
        `SELECT count(*)::int AS paid FROM orders WHERE status = 'CONFIRMED'`,
      );
      return row?.paid === placed;
    });

  /** @returns the backend that says that the runner lives */
  async function alive(): Promise<number | undefined> {
    const rows = await database.query<{ pid: number }>(
      `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1297041905
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    return rows[0]?.pid;
  }

  it('pays what waits, and what comes, after it could not say that jobs are done', async () => {
    await place();
    await allPaid();
    const left = proxy.cut('delete from "graphile_worker"', 'request', 6);
    await placeUntil(() => left() === 0);
    await allPaid();
  });

  it('pays what it was given in an answer that was lost', async () => {
    await place();
    await allPaid();
    const left = proxy.cut('task_id = any', 'answer', 3);
    await placeUntil(() => left() === 0);
    await allPaid();
  });

  it('is followed by another when the server has taken it for dead, and it does not hear of that', async () => {
    await place();
    await allPaid();
    const pid = await alive();
    proxy.silence('hashtext');
    await database.query('SELECT pg_terminate_backend($1)', [pid]);
    await until('its end', async () => (await alive()) !== pid);
    await until('another', alive);
    await place();
    await allPaid();
  });

  it('is followed by another when it cannot give back the jobs that it holds', async () => {
    await place();
    await allPaid();
    const left = proxy.cut('GREATEST(0', 'request', 1);
    await Promise.all(Array.from({ length: 60 }, () => place('cust_slow')));
    await until('more jobs than it runs at once', async () => {
      const [row] = await database.query<{ held: number }>(
        'SELECT count(*)::int AS held FROM graphile_worker._private_jobs WHERE locked_at IS NOT NULL',
      );
      return (row?.held ?? 0) > 20;
    });
    await database.query('SELECT pg_terminate_backend($1)', [await alive()]);
    await until('its end', () => left() === 0);
    await until('another', alive);
    expect(service.lines.filter(({ level }) => level === 'fatal')).toEqual([]);
  });
});
