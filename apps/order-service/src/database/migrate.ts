import { type Config, loadConfig } from '@platform/config';
import { directConnection } from '@platform/database';
import { migrateJobs } from '@platform/jobs';
import { DataSource } from 'typeorm';
import { schema } from './schema';

/** Advisory lock that one migration run holds while others wait. Chosen at random, and never changed. */
const MIGRATION_LOCK = 7_217_903_318_642;

/**
 * Brings the database to this version. Safe when several processes start it at once: the first works, the others wait
 * and find nothing left to do.
 * @returns names of the migrations that this run made
 */
export async function migrate(config: Config): Promise<string[]> {
  const lock = directConnection(config, 'order-service migrations', 0);
  await lock.connect();
  try {
    await lock.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
    await migrateJobs(config); // first: when ours are made, the service takes the database for ready
    const dataSource = new DataSource({
      ...schema,
      type: 'postgres',
      url: config.database.directUrl,
      poolSize: 2,
    });
    await dataSource.initialize();
    try {
      const made = await dataSource.runMigrations({ transaction: 'each' });
      return made.map(({ name }) => name);
    } finally {
      await dataSource.destroy();
    }
  } finally {
    await lock.end();
  }
}

if (require.main === module) {
  migrate(loadConfig()).then(
    (made) => console.log(made.length > 0 ? `migrated: ${made.join(', ')}` : 'nothing to migrate'),
    (error: unknown) => {
      console.error(error instanceof Error ? error.message : error);
      process.exitCode = 1;
    },
  );
}
