import type { TestDatabase } from './database';
import { until } from './until';

/**
 * Waits until a statement in the database waits for a lock.
 * @param statement pattern of its text for `LIKE`
 * @returns process ids of the backends that wait
 */
export function untilLockIsAwaited(database: TestDatabase, statement = '%'): Promise<number[]> {
  const look = async () => {
    // Within a transaction PostgreSQL would show its activity as at the first look.
    await database.query('SELECT pg_stat_clear_snapshot()');
    const rows = await database.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity
       WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1`,
      [statement],
    );
    return rows.length > 0 && rows.map(({ pid }) => pid);
  };
  return until(`a wait for a lock, of ${statement},`, look);
}
