import type { Config } from '@platform/config';
import { Logger, runMigrations } from 'graphile-worker';

/** Brings the tables of the job queue, in the schema `graphile_worker`, to the version of the library. */
export async function migrateJobs(config: Config): Promise<void> {
  await runMigrations({
    connectionString: config.database.directUrl,
    logger: new Logger(() => () => undefined),
  });
}
