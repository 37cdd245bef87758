import type { Config } from '@platform/config';
import { type DirectConnection, withDirectConnection } from '@platform/database';

/** Advisory lock of the one process that changes dead letters. Chosen at random, and never changed. */
const LOCK = 6_021_774_390_518;
const ANSWER_TIMEOUT_MS = 10_000;
/** SQLSTATE connection_does_not_exist: a job that fails with it waits for the database. */
const LOST = '08003';

/**
 * Changes dead letters while nobody else does: what one process replays or drops, another that rewrites the topic would
 * write again.
 * @param purpose of the connection that holds the lock, as in `directOptions`
 * @param change is to call `assertLockHeld` before each change: it rejects when the connection was lost, and with it the lock
 * @returns whether `change` was run; false at once while another process has the lock
 */
export function withDeadLetterLock(
  config: Config,
  purpose: string,
  change: (assertLockHeld: () => Promise<unknown>, client: DirectConnection) => Promise<void>,
): Promise<boolean> {
  return withDirectConnection([config, purpose, ANSWER_TIMEOUT_MS], async (client) => {
    const { rows } = await client.query<{ alone: boolean }>('SELECT pg_try_advisory_lock($1) AS alone', [LOCK]);
    if (!rows[0]?.alone) return false;
    await change(() => client.query('SELECT').catch(lockIsLost), client);
    return true;
  });
}

function lockIsLost(cause: unknown): never {
  const error = new Error('the database was lost, and with it the lock on the dead letters', { cause });
  throw Object.assign(error, { code: LOST });
}
