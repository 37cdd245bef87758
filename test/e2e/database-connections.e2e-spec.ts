import { setTimeout as delay } from 'node:timers/promises';
import { Database, openDirectConnection, type Transaction, withDirectConnection } from '@platform/database';
import { SERVICE_LOGIN } from '../../apps/sandbox/src/settings';
import { spawnService } from '../support/child';
import { api } from '../support/client';
import { createDatabase } from '../support/database';
import { startService, type TestService } from '../support/service';
import { until } from '../support/until';

describe('A connection to PostgreSQL', () => {
  let service: TestService;
  let database: Database;

  beforeAll(async () => {
    service = await startService({ ROLES: 'api', DATABASE_POOL_SIZE: '1' });
    database = service.app.get(Database, { strict: false });
  });
  afterAll(() => service.stop());

  const query = (text: string) => database.run((manager) => manager.query<{ pid: number }[]>(text));
  const pid = async () => (await query('SELECT pg_backend_pid() AS pid'))[0]?.pid;
  const write = "INSERT INTO inbox (consumer, event_id) VALUES ('test', gen_random_uuid()::text)";

  it('has nothing compiled when it is a direct one, which PostgreSQL 15 would do for costs that it is told', async () => {
    const { rows } = await withDirectConnection([service.config, 'test', 5_000], (client) => client.query('SHOW jit'));
    expect(rows).toEqual([{ jit: 'off' }]);
  });

  it.each<[string, () => Promise<unknown>]>([
    ['a statement', () => query(write)],
    ['a prepared statement', () => database.prepared('write', write, [])],
    ['a transaction', () => database.inTransaction((tx) => tx.query(write))],
  ])('is given up when %s hears that the server is a primary no longer', async (_, work) => {
    const before = await pid();
    await query('SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY');
    await expect(work()).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
    expect(await pid()).not.toBe(before);
    await work();
  });

  it('is given up when no answer comes in time, and not given to whoever waits for it', async () => {
    const before = await pid();
    await query('SET statement_timeout = 0');
    const unanswered = query('SELECT pg_sleep(5)');
    unanswered.catch(() => undefined);
    // Who waits may do so for 0.7 s, which on a busy machine may be too short.
    const after = await until('another connection', () => pid().catch(() => undefined));
    expect(after).not.toBe(before);
    await expect(unanswered).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
  });

  it.each<[string, () => Promise<unknown>]>([
    ['a statement', () => query('SELECT pg_sleep(1.1)')],
    ['a prepared statement', () => database.prepared('sleep', 'SELECT pg_sleep(1.1)', [])],
  ])('is kept when %s takes longer than it may', async (_, work) => {
    // An answer that is read more than 0.2 s late counts as none, and costs the connection.
    await until('a connection that is kept', async () => {
      const before = await pid();
      await expect(work()).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
      return (await pid()) === before;
    });
  });

  it.each<[string, (tx: Transaction) => Promise<unknown>]>([
    ['a statement', (tx) => tx.query('SELECT')],
    ['the commit', async () => undefined],
  ])('is a database that is away, where a transaction lost it before %s', async (_, work) => {
    const transaction = database.inTransaction(async (tx) => {
      const [own] = await tx.query<{ pid: number }[]>('SELECT pg_backend_pid() AS pid');
      await service.database.query('SELECT pg_terminate_backend($1)', [own?.pid]);
      await until('its end', () => tx.queryRunner?.isReleased);
      await work(tx);
    });
    await expect(transaction).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
  });

  it('is ended by the server when its transaction waits for the service for 5 s', async () => {
    const sql = 'SHOW idle_in_transaction_session_timeout';
    const rows = await database.run((manager) => manager.query<object[]>(sql));
    expect(rows).toEqual([{ idle_in_transaction_session_timeout: '5s' }]);
  });
});

describe('The connections to PostgreSQL', () => {
  const pids = async ({ database }: TestService) => {
    const sql =
      "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'order-service'";
    const rows = await database.query<{ pid: number }>(sql);
    return rows.map(({ pid }) => pid).sort();
  };

  it('are all open before the first request, and stay open while nobody asks', async () => {
    const service = await startService({ DATABASE_POOL_SIZE: '3' });
    const atStart = await pids(service);
    expect(atStart).toHaveLength(3);
    await delay(10_500); // by itself node-postgres closes what was idle for 10 s
    expect(await pids(service)).toEqual(atStart);
    await service.stop();
  });

  it('are all open again when the process is ready again, after the server has ended them', async () => {
    const service = await startService({ DATABASE_POOL_SIZE: '3' });
    const ended = await pids(service);
    await service.database.query('SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid', [ended]);
    await until('their end', async () => (await pids(service)).length === 0);
    const isReady = async () => (await api(service.url)('/health/ready')).status === 200;
    await until('the process to be ready', isReady);
    expect(await pids(service)).toHaveLength(3);
    const opened = await pids(service);
    await isReady();
    expect(await pids(service)).toEqual(opened);
    await service.stop();
  });

  it('are fewer where the server has no room, which is said at the start', async () => {
    const database = await createDatabase();
    const name = new URL(database.url).pathname.slice(1);
    await database.query(`ALTER DATABASE ${name} CONNECTION LIMIT 3`); // one is the test's own
    const service = await spawnService({ DATABASE_URL: database.url, DATABASE_POOL_SIZE: '3', ROLES: 'api' });
    try {
      const warnings = service.lines.filter(({ context }) => context === 'DatabaseModule');
      // PostgreSQL counts those that it is about to refuse too, so it may refuse one more.
      const msg = expect.stringMatching(/^Connections to the database that could not be opened: [12] of 3$/);
      expect(warnings).toMatchObject([{ level: 'warn', msg, err: { code: '08001' } }]);
    } finally {
      await service.end();
      await database.drop();
    }
  });
});

describe('A direct connection to PostgreSQL', () => {
  it('is given up by the server half a minute after its process has vanished', async () => {
    const service = await startService();
    const client = await openDirectConnection(service.config, 'test', 10_000);
    const show = async (name: string) => (await client.query<Record<string, string>>(`SHOW ${name}`)).rows[0]?.[name];
    const names = ['tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count', 'tcp_user_timeout'];
    const settings: (string | undefined)[] = [];
    for (const name of names) settings.push(await show(name));
    await client.end();
    expect(settings).toEqual(['15', '5', '3', '30000']);
    await service.stop();
  });

  it('may take as long as its work asks for, whatever its role may', async () => {
    const service = await startService();
    // As docs/operations.md says for a pooler that ignores the time limits of the pool.
    const name = new URL(service.database.url).pathname.slice(1);
    await service.database.query(`ALTER ROLE ${SERVICE_LOGIN.name} IN DATABASE ${name} SET statement_timeout = '1s'`);
    const timeoutOf = async (queryTimeoutMs: number) => {
      const client = await openDirectConnection(service.config, 'test', queryTimeoutMs);
      const { rows } = await client.query<{ statement_timeout: string }>('SHOW statement_timeout');
      await client.end();
      return rows[0]?.statement_timeout;
    };
    expect([await timeoutOf(300_000), await timeoutOf(0)]).toEqual(['299s', '0']);
    await service.stop();
  });
});
