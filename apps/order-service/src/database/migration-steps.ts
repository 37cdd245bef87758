import type { QueryRunner } from 'typeorm';

/** The `down` of each migration: the previous version runs on the next one's schema, so no migration is ever undone. */
export function onlyForward(): Promise<never> {
  return Promise.reject(new Error('Migrations only go forward: see docs/releasing.md'));
}

/**
 * Builds an index while others write to the table. It waits for their transactions, however long they take, and cannot
 * run inside one: the migration must have `transaction = false`.
 * @param on the table, and what else follows `ON` in `CREATE INDEX`
 */
export async function buildIndex(runner: QueryRunner, name: string, on: string): Promise<void> {
  await dropIndex(runner, name); // an interrupted run leaves an invalid one behind
  await withoutLockTimeout(runner, `CREATE INDEX CONCURRENTLY ${name.replace(/^.*\./, '')} ON ${on}`);
}

/** Drops an index that is no longer needed, under the same conditions as {@link buildIndex}. */
export async function dropIndex(runner: QueryRunner, name: string): Promise<void> {
  await withoutLockTimeout(runner, `DROP INDEX CONCURRENTLY IF EXISTS ${name}`);
}

async function withoutLockTimeout(runner: QueryRunner, statement: string): Promise<void> {
  await runner.query('SET lock_timeout = 0');
  await runner.query(statement);
  await runner.query('RESET lock_timeout');
}
