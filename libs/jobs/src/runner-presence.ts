import { setTimeout as delay } from 'node:timers/promises';
import type { Pool, PoolClient } from 'pg';

/** First key of the advisory locks that show which runners are alive. Chosen at random, and never changed. */
export const LOCK_CLASS = 1_297_041_905;
/** How often the runner checks whether it still counts as alive. The server gives it up after 30 s of silence. */
const HEARTBEAT_MS = 5_000;

/** Shows that a runner is alive, by a lock that goes with its process. A runner that has lost it counts as dead. */
export class RunnerPresence {
  private readonly released = new AbortController();

  private constructor(private readonly client: PoolClient) {}

  static async connect(pool: Pool): Promise<RunnerPresence> {
    return new RunnerPresence(await pool.connect());
  }

  /**
   * Holds the lock until {@link release}. Rejects when the lock is lost.
   * @param onHeld called once the lock is held
   */
  async hold(runnerId: string, onHeld: () => void): Promise<void> {
    const { promise: lost, reject } = Promise.withResolvers<never>();
    this.client.once('end', () => reject(new Error('The connection that shows that the job runner is alive was lost')));
    await Promise.race([lost, this.heartbeat(runnerId, onHeld)]).catch((error: unknown) => {
      if (!this.released.signal.aborted) throw error;
    });
  }

  release(): void {
    this.released.abort();
    this.client.release(true);
  }

  private async heartbeat(runnerId: string, onHeld: () => void): Promise<void> {
    await this.client.query('SELECT pg_advisory_lock_shared($1, hashtext($2))', [LOCK_CLASS, runnerId]);
    onHeld();
    for (;;) {
      await delay(HEARTBEAT_MS, undefined, { signal: this.released.signal });
      await this.client.query('SELECT');
    }
  }
}
