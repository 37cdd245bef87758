import { setTimeout as delay } from 'node:timers/promises';
import { readArguments } from '@platform/arguments';
import { type Config, loadConfig } from '@platform/config';
import { type DirectConnection, endConnection, isForbidden, isLocked, openDirectConnection } from '@platform/database';
import { migrateJobs } from '@platform/jobs';
import { DataSource } from 'typeorm';
import { SERVICE_NAME } from '../service-name';
import { schema } from './schema';
import { createServiceRole, grantToServiceRole } from './service-role';

/** Advisory lock that one migration run holds while others wait. Chosen at random, and never changed. */
const MIGRATION_LOCK = 7_217_903_318_642;
const POLL_MS = 100;
/** While a statement waits for a lock on a table, all later statements on that table wait behind it. */
const LOCK_TIMEOUT_MS = 2_000;

const USAGE = 'usage: npm run migrate   (without arguments)';

/**
 * Brings the database to this version. Safe when several processes start it at once: the first works, the others wait
 * and find nothing left to do. Afterwards the service's role has the privileges that this version needs,
 * and no others unless a later version has migrated here.
 * @returns names of the migrations that this run applied
 */
export async function migrate(given: Config): Promise<string[]> {
  const { migrationUrl } = given.database;
  const config = { ...given, database: { ...given.database, directUrl: migrationUrl } };
  const lock = await openDirectConnection(config, 'migrations', 0);
  lock.on('error', ({ message }) => {
    throw new Error(
      `The connection with the migration lock was lost (${message}). Another process may be migrating by now, so this one stops: run it again`,
    );
  });
  try {
    await acquire(lock);
    await createServiceRole(lock);
    await migrateJobs(config); // first: the service is ready as soon as our own migrations are applied
    // eslint-disable-next-line no-restricted-syntax -- tables are changed for all tenants
    const dataSource = new DataSource({
      ...schema,
      type: 'postgres',
      url: migrationUrl,
      poolSize: 2,
      extra: { lock_timeout: LOCK_TIMEOUT_MS },
    });
    await dataSource.initialize();
    try {
      const made = await dataSource.runMigrations({ transaction: 'each' });
      const known = new Set(dataSource.migrations.map(({ name }) => name));
      const done = await dataSource.query<{ name: string }[]>('SELECT name FROM migrations');
      const isNewest = done.every(({ name }) => known.has(name));
      if (!isNewest) console.warn('A later version has migrated here: the service keeps the privileges that it has.');
      await grantToServiceRole(lock, isNewest);
      return made.map(({ name }) => name);
    } finally {
      await dataSource.destroy();
    }
  } finally {
    await endConnection(lock);
  }
}

/**
 * Polls, because a statement that waits for the lock would deadlock with the lock's holder, whose CREATE INDEX
 * CONCURRENTLY waits for all statements that began before it.
 */
async function acquire(lock: DirectConnection): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const { rows } = await lock.query<{ got: boolean }>('SELECT pg_try_advisory_lock($1) AS got', [MIGRATION_LOCK]);
    if (rows[0]?.got) return;
    if (tries === 1) console.warn('Another process is migrating this database; this one waits for it');
    await delay(POLL_MS);
  }
}

if (require.main === module) {
  main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    if (isForbidden(error))
      console.error('Migrations are run by the owner of the tables: DATABASE_MIGRATION_URL has to log in as that role');
    if (isLocked(error)) console.error('A transaction has locked what is to be changed: run it again');
    process.exitCode = 1;
  });
}

async function main(): Promise<void> {
  readArguments(USAGE, {}); // refuses all arguments: whoever asks for a dry run must not get a migration
  const made = await migrate(loadConfig(SERVICE_NAME));
  console.log(made.length > 0 ? `migrated: ${made.join(', ')}` : 'nothing to migrate');
}
