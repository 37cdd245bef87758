import { setTimeout as delay } from 'node:timers/promises';
import { type Config, loadConfig } from '@platform/config';
import { type DirectConnection, directConnection, endConnection } from '@platform/database';
import { migrateJobs } from '@platform/jobs';
import { DataSource } from 'typeorm';
import { SERVICE_NAME } from '../service-name';
import { schema } from './schema';
import { createServiceRole, grantToServiceRole } from './service-role';

/** Advisory lock that one migration run holds while others wait. Chosen at random, and never changed. */
const MIGRATION_LOCK = 7_217_903_318_642;
const LOOK_AGAIN_MS = 100;

/**
 * Brings the database to this version. Safe when several processes start it at once: the first works, the others wait
 * and find nothing left to do. Afterwards the service's role has the privileges that this version needs,
 * and no others unless a later version has migrated here.
 * @returns names of the migrations that this run made
 */
export async function migrate(given: Config): Promise<string[]> {
  const { migrationUrl } = given.database;
  const config = { ...given, database: { ...given.database, directUrl: migrationUrl } };
  const lock = await directConnection(config, 'migrations', 0);
  // Another may have it by now, and begin: nothing more must be done here.
  lock.on('error', (error) => {
    throw error;
  });
  try {
    await acquire(lock);
    await createServiceRole(lock);
    await migrateJobs(config); // first: when ours are made, the service takes the database for ready
    // eslint-disable-next-line no-restricted-syntax -- tables are changed for all tenants
    const dataSource = new DataSource({
      ...schema,
      type: 'postgres',
      url: migrationUrl,
      poolSize: 2,
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

/** A statement that waited for the lock would be in the way of an index that is made concurrently, for ever. */
async function acquire(lock: DirectConnection): Promise<void> {
  for (;;) {
    const { rows } = await lock.query<{ got: boolean }>('SELECT pg_try_advisory_lock($1) AS got', [MIGRATION_LOCK]);
    if (rows[0]?.got) return;
    await delay(LOOK_AGAIN_MS);
  }
}

if (require.main === module) {
  main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  });
}

async function main(): Promise<void> {
  const made = await migrate(loadConfig(SERVICE_NAME));
  console.log(made.length > 0 ? `migrated: ${made.join(', ')}` : 'nothing to migrate');
}
