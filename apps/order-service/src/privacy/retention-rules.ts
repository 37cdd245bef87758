import type { Config } from '@platform/config';
import { fromUUID } from 'typeid-js';

/** Runs a statement and returns its rows. */
export interface Queryable {
  query<T>(text: string, values: unknown[]): Promise<T>;
}

interface Batch {
  readonly deleted: number;
  /** Position at which the next batch begins; undefined after the last. */
  readonly next?: string;
}

/** What is deleted from a table, and when. */
export interface RetentionRule {
  readonly table: string;
  readonly keepHours: number;
  /** Position at which the first batch begins. */
  readonly start: string;
  /** Deletes the expired ones among the next `limit` rows after the position `after`. */
  readonly deleteBatch: (db: Queryable, after: string, limit: number) => Promise<Batch>;
  /** How many rows have expired. */
  readonly count: (db: Queryable) => Promise<number>;
}

const CUTOFF = "now() - $1::float * interval '1 hour'";

/** The rules of the tables whose rows are not kept for ever. */
export function retentionRules({ idempotencyTtlHours, retention, outboxRelay }: Config): RetentionRule[] {
  return [
    rowsByAge('idempotency_keys', 'created_at', idempotencyTtlHours),
    // Without the relay nothing sets `published_at`: change data capture is taken to have read the rows by then.
    outboxRows(retention.outboxHours, outboxRelay ? 'published_at' : 'created_at'),
    rowsByAge('inbox', 'consumed_at', retention.inboxDays * 24),
    settledOrders(retention.orderDays * 24, outboxRelay),
    auditEvents(retention.auditDays * 24),
  ].filter(({ keepHours }) => keepHours > 0);
}

async function countRows(db: Queryable, table: string, due: string, keepHours: number): Promise<number> {
  const [row] = await db.query<{ rows: number }[]>(`SELECT count(*)::int AS rows FROM ${table} WHERE ${due}`, [
    keepHours,
  ]);
  return row?.rows ?? 0;
}

/** Rows that expire by age alone; `column` has an index. */
function rowsByAge(table: string, column: string, keepHours: number): RetentionRule {
  const due = `${column} < ${CUTOFF}`;
  return {
    table,
    keepHours,
    start: '',
    async deleteBatch(tx, _after, limit) {
      const [row] = await tx.query<{ deleted: number }[]>(
        `WITH gone AS (DELETE FROM ${table} WHERE ctid = ANY (ARRAY(
           SELECT ctid FROM ${table} WHERE ${due} ORDER BY ${column} LIMIT $2)) RETURNING 1)
         SELECT count(*)::int AS deleted FROM gone`,
        [keepHours, limit],
      );
      const deleted = row?.deleted ?? 0;
      return { deleted, next: deleted === limit ? '' : undefined };
    },
    count: (db) => countRows(db, table, due, keepHours),
  };
}

/**
 * Published events have no index, because each order would pay for it. Positions are nearly in the order of time: once
 * a whole batch is younger than the period, so is the rest.
 */
function outboxRows(keepHours: number, column: 'published_at' | 'created_at'): RetentionRule {
  return {
    table: 'outbox',
    keepHours,
    start: '0',
    async deleteBatch(tx, after, limit) {
      const [row] = await tx.query<{ deleted: number; last: string | null; goesOn: boolean | null }[]>(
        `WITH seen AS MATERIALIZED (
           SELECT position, created_at, ${column} AS since FROM outbox WHERE position > $3::bigint ORDER BY position LIMIT $2
         ), gone AS (
           DELETE FROM outbox USING seen
           WHERE outbox.position = seen.position AND seen.since < ${CUTOFF} RETURNING 1
         )
         SELECT (SELECT count(*)::int FROM gone) AS deleted, max(position)::text AS last,
                bool_or(created_at < ${CUTOFF}) AS "goesOn" FROM seen`,
        [keepHours, limit, after],
      );
      return { deleted: row?.deleted ?? 0, next: row?.goesOn ? (row.last ?? undefined) : undefined };
    },
    count: (db) => countRows(db, 'outbox', `${column} < ${CUTOFF}`, keepHours),
  };
}

/** Events are deleted by whole blocks. The blocks stay, to verify the rest; the database always keeps 30 days. */
function auditEvents(keepHours: number): RetentionRule {
  return {
    table: 'audit_events',
    keepHours,
    start: '',
    async deleteBatch(tx) {
      const [row] = await tx.query<{ deleted: number }[]>(`SELECT prune_audit_events(${CUTOFF}, 1)::int AS deleted`, [
        keepHours,
      ]);
      const deleted = row?.deleted ?? 0;
      return { deleted, next: deleted > 0 ? '' : undefined };
    },
    async count(db) {
      const [row] = await db.query<{ rows: number }[]>(
        `SELECT coalesce(sum(cardinality(event_ids)), 0)::int AS rows FROM audit_blocks
         WHERE sealed_at < ${CUTOFF} AND last_position >= (SELECT min(position) FROM audit_events)`,
        [keepHours],
      );
      return row?.rows ?? 0;
    },
  };
}

/**
 * Expired orders with nothing left to do, here or at the payment API. A cutoff before 1970 counts as 1970 and finds
 * none: the hex digits of a negative number would be those of an id greater than all others.
 */
const SETTLED = `
  id < (lpad(to_hex(greatest(0, extract(epoch FROM ${CUTOFF}) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
  AND updated_at < ${CUTOFF}
  AND status <> 'PENDING'
  AND (payment_status IS DISTINCT FROM 'AUTHORIZED' OR status = 'CONFIRMED')
  AND (payment_status IS NOT NULL
       OR NOT EXISTS (SELECT FROM payments WHERE order_id = orders.id AND asked_at IS NOT NULL))`;

/** Ids are in the order of time, so the primary key finds the old ones. */
function settledOrders(keepHours: number, outboxRelay: boolean): RetentionRule {
  return {
    table: 'orders',
    keepHours,
    start: '00000000-0000-0000-0000-000000000000',
    async deleteBatch(tx, after, limit) {
      // Locked first: whoever appends an event has either committed, and it is seen below, or will find the order gone.
      const orders = await tx.query<{ id: string }[]>(
        `SELECT id FROM orders WHERE ${SETTLED} AND id > $3::uuid ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED`,
        [keepHours, limit, after],
      );
      const uuids = new Map<string, string>(orders.map(({ id }) => [fromUUID(id, 'ord'), id]));
      const unpublished = outboxRelay
        ? await tx.query<{ aggregateid: string }[]>(
            'SELECT aggregateid FROM outbox WHERE published_at IS NULL AND aggregateid = ANY($1)',
            [[...uuids.keys()]],
          )
        : [];
      for (const { aggregateid } of unpublished) uuids.delete(aggregateid);
      await tx.query('DELETE FROM orders WHERE id = ANY($1::uuid[])', [[...uuids.values()]]);
      return { deleted: uuids.size, next: orders.length === limit ? orders.at(-1)?.id : undefined };
    },
    count: (db) => countRows(db, 'orders', SETTLED, keepHours),
  };
}
