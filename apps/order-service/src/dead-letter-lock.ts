import type { Config } from '@platform/config';
import { type DirectConnection, overDirectConnection } from '@platform/database';

/** Advisory lock of the one process that changes dead letters. Chosen at random, and never changed. */
const LOCK = 6_021_774_390_518;
const ANSWER_TIMEOUT_MS = 10_000;

/**
 * Changes dead letters while nobody else does: what one process replays or drops, another that rewrites the topic would
 * write again.
 * @param purpose of the connection that holds the lock, as in `directOptions`
 * @returns whether `change` was run; false at once while another process has the lock
 */
export function changeDeadLetters(
  config: Config,
  purpose: string,
  change: (client: DirectConnection) => Promise<void>,
): Promise<boolean> {
  return overDirectConnection([config, purpose, ANSWER_TIMEOUT_MS], async (client) => {
    const { rows } = await client.query<{ alone: boolean }>('SELECT pg_try_advisory_lock($1) AS alone', [LOCK]);
    if (!rows[0]?.alone) return false;
    await change(client);
    return true;
  });
}
