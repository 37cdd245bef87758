import type { Config } from '@platform/config';
import { type DirectConnection, withDirectConnection } from '@platform/database';

/** Advisory lock: only one process at a time changes dead letters. Chosen at random, and never changed. */
const LOCK = 6_021_774_390_518;
const ANSWER_TIMEOUT_MS = 10_000;
/** SQLSTATE connection_does_not_exist: a job that fails with it is treated as one that waits for the database. */
const LOST = '08003';

/**
 * Runs `change` while no other process changes dead letters: a process that rewrites the topic would write again what
 * another one replays or drops.
 * @param purpose of the connection that holds the lock, as in `directOptions`
 * @param change must call `assertLockHeld` before each change; that rejects if the connection was lost, and with it the
 *   lock
 * @returns whether `change` was run; false at once while another process has the lock
 */
export function withDeadLetterLock(
  config: Config,
  purpose: string,
  change: (assertLockHeld: () => Promise<unknown>, client: DirectConnection) => Promise<void>,
): Promise<boolean> {
  return withDirectConnection([config, purpose, ANSWER_TIMEOUT_MS], async (client) => {
    const { rows } = await client.query<{ acquired: boolean }>('SELECT pg_try_advisory_lock($1) AS acquired', [LOCK]);
    if (!rows[0]?.acquired) return false;
    await change(() => client.query('SELECT').catch(lockIsLost), client);
    return true;
  });
}

function lockIsLost(cause: unknown): never {
  const error = new Error('the database was lost, and with it the lock on the dead letters', { cause });
  throw Object.assign(error, { code: LOST });
}
