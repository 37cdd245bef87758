import type { Client } from 'pg';

/**
 * The outbox is divided into this many lanes by a hash of the aggregate's id. The column `outbox.lane` computes the
 * same number: changing it takes a migration.
 */
export const LANES = 16;

/** First key of the advisory locks; the second is the lane, or PRESENCE. A random number that must not change. */
const LOCK_CLASS = 1_860_414_203;
const PRESENCE = LANES;

/**
 * The lanes that this process relays. A session-level advisory lock on each lane ensures that only one process sends
 * the events of an aggregate. It is released with the connection, so a process that died blocks nobody. Each process
 * also holds a shared lock to show its presence: their number gives the fair share of lanes.
 */
export class OutboxLanes {
  private readonly lanes = new Set<number>();
  private isPresent = false;

  constructor(private readonly client: Client) {}

  get held(): number[] {
    return [...this.lanes];
  }

  /**
   * Releases lanes above the fair share and takes free ones up to it. Must not be called while events are being sent,
   * nor before any can be: from the first call on, other processes leave this one its share.
   */
  async balance(): Promise<void> {
    if (!this.isPresent) await this.client.query('SELECT pg_advisory_lock_shared($1, $2)', [LOCK_CLASS, PRESENCE]);
    this.isPresent = true;
    const share = Math.ceil(LANES / (await this.countProcesses()));
    for (const lane of this.held.slice(share)) {
      await this.client.query('SELECT pg_advisory_unlock($1, $2)', [LOCK_CLASS, lane]);
      this.lanes.delete(lane);
    }
    if (this.lanes.size >= share) return;
    const candidates = Array.from({ length: LANES }, (_, lane) => lane).filter((lane) => !this.lanes.has(lane));
    const { rows } = await this.client.query<{ lane: number }>(
      'SELECT lane FROM unnest($2::int[]) AS lane WHERE pg_try_advisory_lock($1, lane) LIMIT $3',
      [LOCK_CLASS, candidates, share - this.lanes.size],
    );
    for (const { lane } of rows) this.lanes.add(lane);
  }

  private async countProcesses(): Promise<number> {
    const { rows } = await this.client.query<{ processes: number }>(
      `SELECT count(*)::int AS processes FROM pg_locks
       WHERE locktype = 'advisory' AND granted AND classid = $1 AND objid = $2 AND objsubid = 2
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [LOCK_CLASS, PRESENCE],
    );
    return rows[0]?.processes ?? 1;
  }
}
