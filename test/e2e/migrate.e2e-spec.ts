import { once } from 'node:events';
import { loadConfig } from '@platform/config';
import { migrate } from '../../apps/order-service/src/database/migrate';
import { SERVICE_NAME } from '../../apps/order-service/src/service-name';
import { Client } from 'pg';
import { Pieces } from '../../apps/sandbox/src/pieces';
import { runProgram, startProgram } from '../../apps/sandbox/src/program';
import { spawnService } from '../support/child';
import { apiOnce } from '../support/client';
import { createDatabase } from '../support/database';
import { environment } from '../support/environment';
import { untilLockIsAwaited } from '../support/lock-wait';
import { until } from '../support/until';

describe('migrate', () => {
  /** A database whose migrations another transaction has locked. */
  async function createLocked() {
    const database = await createDatabase();
    const other = new Client(database.superuserUrl);
    await other.connect();
    await other.query('BEGIN; LOCK TABLE migrations IN ACCESS EXCLUSIVE MODE');
    const env = environment({ DATABASE_URL: database.url, DATABASE_MIGRATION_URL: database.superuserUrl });
    return { database, env, other };
  }

  it('is done by one when several start at once, and changes nothing the second time', async () => {
    const database = await createDatabase({ empty: true });
    const config = loadConfig(
      SERVICE_NAME,
      environment({ DATABASE_URL: database.url, DATABASE_MIGRATION_URL: database.superuserUrl }),
    );
    const warn = jest.spyOn(console, 'warn').mockImplementation();
    const runs = await Promise.all([1, 2, 3, 4, 5].map(() => migrate(config)));
    expect(warn).toHaveBeenCalledWith('Another process is migrating this database; this one waits for it');
    warn.mockRestore();
    expect(runs.filter((made) => made.length > 0)).toHaveLength(1);
    expect(await migrate(config)).toEqual([]);
    const tables = await database.query<{ name: string }>(
      "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
    );
    expect(tables.map(({ name }) => name)).toEqual([
      ...['audit_blocks', 'audit_events', 'cursor_keys', 'erasures', 'idempotency_keys', 'inbox', 'migrations'],
      ...['orders', 'outbox', 'outbox_parked', 'payments'],
    ]);
    // Else retention could not delete the orders that others refer to, or would read the others' whole table for each.
    const keeping = await database.query(
      `SELECT conname FROM pg_constraint WHERE contype = 'f' AND confrelid = 'orders'::regclass
       AND (confdeltype <> 'c' OR NOT EXISTS (
         SELECT FROM pg_index WHERE indrelid = conrelid AND indpred IS NULL AND indkey[0] = conkey[1]))`,
    );
    expect(keeping).toEqual([]);
    await database.drop();
  });

  it('goes no further when it has lost its lock, which another may have by now', async () => {
    const { database, env, other } = await createLocked();
    const child = startProgram('database/migrate', env, [], 'pipe');
    const end = once(child, 'close');
    await untilLockIsAwaited(database);
    await database.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND application_name = 'order-service migrations'`,
    );
    expect(await end).toEqual([1, null]);
    await other.end();
    await database.drop();
  });

  it('waits only briefly for what a transaction has locked, since all others wait behind it', async () => {
    const { database, env, other } = await createLocked();
    await expect(migrate(loadConfig(SERVICE_NAME, env))).rejects.toThrow('lock timeout');
    await other.end();
    await database.drop();
  });

  it('is not begun with an argument that it does not know, such as --dry-run', async () => {
    const database = await createDatabase({ empty: true });
    const env = environment({ DATABASE_URL: database.url, DATABASE_MIGRATION_URL: database.superuserUrl });
    const child = startProgram('database/migrate', env, ['--dry-run']);
    expect(await once(child, 'close')).toEqual([1, null]);
    expect(await database.query("SELECT to_regclass('orders') AS orders")).toEqual([{ orders: null }]);
    await database.drop();
  });

  it('of an earlier version, run at a way back, takes nothing from the later one', async () => {
    const database = await createDatabase();
    const config = loadConfig(
      SERVICE_NAME,
      environment({ DATABASE_URL: database.url, DATABASE_MIGRATION_URL: database.superuserUrl }),
    );
    const may = async () => {
      const [row] = await database.query(
        `SELECT has_table_privilege('order_service', 'inbox', 'UPDATE') AS later,
                has_table_privilege('order_service', 'of_later', 'SELECT') AS table_of_later,
                has_table_privilege('order_service', 'cursor_keys', 'SELECT') AS own`,
      );
      return row;
    };
    await database.query("INSERT INTO migrations (timestamp, name) VALUES (9999999999999, 'Later9999999999999')");
    await database.query('GRANT UPDATE ON inbox TO order_service');
    await database.query('CREATE TABLE of_later (id int); GRANT SELECT ON of_later TO order_service');
    await database.query('REVOKE SELECT ON cursor_keys FROM order_service');
    const warn = jest.spyOn(console, 'warn').mockReturnValue(undefined);
    await migrate(config);
    expect(warn).toHaveBeenCalledTimes(1);
    warn.mockRestore();
    expect(await may()).toEqual({ later: true, table_of_later: true, own: true });

    await database.query("DELETE FROM migrations WHERE name = 'Later9999999999999'");
    await migrate(config);
    expect(await may()).toEqual({ later: false, table_of_later: false, own: true });
    await database.drop();
  });

  it('that is missing keeps the service not ready until it is made', async () => {
    const database = await createDatabase({ empty: true });
    const env = { DATABASE_URL: database.url };
    const service = await spawnService({ ...env, ROLES: 'api' }, { isNotReady: true });
    const call = apiOnce(service.url);
    await call('/health/ready');
    const { status, body } = await call('/health/ready');
    expect(status).toBe(503);
    const message = 'migrations are missing: run `npm run migrate`';
    expect(body.error.database).toMatchObject({ status: 'down', message });
    const warned = () => service.lines.filter(({ missing }) => missing !== undefined);
    await until('the warning', () => warned().length > 0);
    expect(warned()).toMatchObject([{ level: 'warn', context: 'DatabaseModule' }]); // once
    await runProgram(
      new Pieces(),
      'database/migrate',
      environment({ PATH: process.env['PATH'], ...env, DATABASE_MIGRATION_URL: database.superuserUrl }),
    );
    await until('readiness', async () => (await call('/health/ready')).status === 200);
    await service.end();
    await database.drop();
  });
});
