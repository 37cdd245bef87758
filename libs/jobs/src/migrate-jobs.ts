import type { Config } from '@platform/config';
import { Logger, runMigrations } from 'graphile-worker';

/** Migrates the job queue's tables (schema `graphile_worker`) to the installed version of Graphile Worker. */
export async function migrateJobs(config: Config): Promise<void> {
  await runMigrations({
    connectionString: config.database.directUrl,
    logger: new Logger(() => () => undefined),
  });
}
