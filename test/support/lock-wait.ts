import type { TestDatabase } from './database';
import { until } from './until';

/**
 * Waits until somebody waits for a lock in the database.
 * @param statement with which, as `LIKE` has it
 * @returns the backends that wait
 */
export function untilLockIsAwaited(database: TestDatabase, statement = '%', timeoutMs?: number): Promise<number[]> {
  const look = async () => {
    // Within a transaction PostgreSQL shows what it has shown before.
    await database.query('SELECT pg_stat_clear_snapshot()');
    const rows = await database.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity
       WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1`,
      [statement],
    );
    return rows.length > 0 && rows.map(({ pid }) => pid);
  };
  return until(`a wait for a lock, of ${statement},`, look, timeoutMs);
}
