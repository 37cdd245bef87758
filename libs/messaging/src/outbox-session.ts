import type { Config } from '@platform/config';
import { endConnection, isLocked, isTooSlow, openDirectConnection } from '@platform/database';
import type { Client } from 'pg';
import { OutboxLanes } from './outbox-lanes';
import type { StoredEvent } from './stored-event';

const QUERY_TIMEOUT_MS = 30_000;
/** Far longer than we lock events: waiting longer would only keep the lanes from other processes. */
const LOCK_TIMEOUT = '2s';
const BATCH_ROWS = 500;
/** Limits when counting a backlog. Without them, a long enough backlog would never be relayed. */
const MAX_COUNTED = 5_000_000;
const COUNT_TIMEOUT = '3s';
/** SQL condition on a row of the outbox: it is unpublished, and its aggregate is not parked. */
const IS_WAITING = `published_at IS NULL
         AND NOT EXISTS (SELECT FROM outbox_parked AS parked WHERE parked.aggregateid = outbox.aggregateid)`;
/** A batch may go to one partition, where brokers limit it to 1 MiB by default (`message.max.bytes`). */
const BATCH_BYTES = 800_000;
/** Upper estimate of a message's size without its payload: key, headers and record. */
const ENVELOPE_BYTES = 500;

/**
 * The relay's connection to the outbox. Locks, reads and marks share it, so that a process that lost its lanes cannot
 * read; it marks what it had published with its next session.
 */
export class OutboxSession {
  private rows = BATCH_ROWS;
  private lastWasCut = false;

  private constructor(
    private readonly client: Client,
    readonly lanes: OutboxLanes,
  ) {}

  static async open(config: Config): Promise<OutboxSession> {
    const client = await openDirectConnection(config, 'outbox relay', QUERY_TIMEOUT_MS);
    try {
      await client.query(`SET lock_timeout = '${LOCK_TIMEOUT}'`);
      // With missing or outdated statistics PostgreSQL would sort the whole backlog for each batch instead of reading
      // the index from its beginning.
      await client.query('SET enable_sort = off');
      return new OutboxSession(client, new OutboxLanes(client));
    } catch (error) {
      await endConnection(client);
      throw error;
    }
  }

  async close(): Promise<void> {
    await endConnection(this.client);
  }

  /** Whether the last read left unpublished events behind. */
  get hasMore(): boolean {
    return this.lastWasCut;
  }

  /**
   * The oldest unpublished events of our lanes, without parked aggregates. There is no high-water mark, so that a row
   * that commits late is not skipped.
   * @param underWay events to leave out because they are being published
   */
  async read(underWay: readonly StoredEvent[] = []): Promise<StoredEvent[]> {
    const { rows } = await this.client.query<StoredEvent>(
      `SELECT position, id, aggregatetype, aggregateid, type, payload::text AS payload, sequence, traceparent,
              request_id, created_at
       FROM outbox
       WHERE ${IS_WAITING} AND lane = ANY($1) AND position <> ALL($3::bigint[])
       ORDER BY position LIMIT $2`,
      [this.lanes.held, this.rows, underWay.map(({ position }) => position)],
    );
    let bytes = 0;
    const end = rows.findIndex(({ payload }) => {
      bytes += Buffer.byteLength(payload) + ENVELOPE_BYTES;
      return bytes > BATCH_BYTES;
    });
    const batch = end === -1 ? rows : rows.slice(0, Math.max(end, 1));
    // After large events, the next read fetches fewer rows, instead of hundreds to send a few.
    this.lastWasCut = end !== -1 || rows.length === this.rows;
    this.rows = end === -1 ? BATCH_ROWS : 2 * batch.length;
    return batch;
  }

  /**
   * Rejects if another transaction locks an event: that one is published again, all others are marked. Positions are
   * not enough to identify the events: after a failover that lost rows, another event may have the position of one that
   * was published before.
   */
  async markPublished(events: readonly StoredEvent[]): Promise<void> {
    const values = [events.map(({ position }) => position), events.map(({ id }) => id)];
    const mark = 'UPDATE outbox SET published_at = now() WHERE';
    const these = 'position = ANY($1::bigint[]) AND id = ANY($2::uuid[])';
    try {
      await this.client.query(`${mark} ${these}`, values);
    } catch (error) {
      if (isLocked(error)) {
        const free = `SELECT position FROM outbox WHERE ${these} FOR UPDATE SKIP LOCKED`;
        await this.client.query(`${mark} position = ANY(ARRAY(${free}))`, values);
      }
      throw error;
    }
  }

  /** Parks the event's aggregate: its events wait, others go on. See `docs/runbooks/outbox-parked.md`. */
  async park(event: StoredEvent, reason: string): Promise<void> {
    await this.client.query(
      `INSERT INTO outbox_parked (aggregateid, position, reason) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
      [event.aggregateid, event.position, reason],
    );
  }

  /**
   * @returns number of events that wait (at most five million; undefined if there are too many to count in 3 s), age of the
   *   oldest in seconds, number of parked aggregates
   */
  async measure(): Promise<{ backlog: number | undefined; oldestAge: number; parked: number }> {
    const { rows } = await this.client.query<{ oldestAge: number; parked: number }>(
      `SELECT coalesce(extract(epoch FROM now() - (SELECT created_at FROM outbox WHERE ${IS_WAITING} ORDER BY position LIMIT 1)), 0)::float AS "oldestAge",
              (SELECT count(*)::int FROM outbox_parked) AS parked`,
    );
    const { oldestAge = 0, parked = 0 } = rows[0] ?? {};
    return { backlog: await this.count(), oldestAge, parked };
  }

  private async count(): Promise<number | undefined> {
    await this.client.query(`BEGIN; SET LOCAL statement_timeout = '${COUNT_TIMEOUT}'`);
    try {
      const { rows } = await this.client.query<{ count: number }>(
        `SELECT count(*)::int FROM (SELECT FROM outbox WHERE ${IS_WAITING} ORDER BY position LIMIT ${MAX_COUNTED}) AS waiting`,
      );
      return rows[0]?.count;
    } catch (error) {
      if (!isTooSlow(error)) throw error;
      return undefined;
    } finally {
      await this.client.query('ROLLBACK');
    }
  }
}
