import { createHmac } from 'node:crypto';

/** Length of a row's MAC: only 128 bits, because a block stores one for each of its rows. */
const ROW_MAC_BYTES = 16;

/** SQL for the columns of `audit_events` that a row's MAC covers, as text, in the order in which they are hashed. */
export const SEALED_COLUMNS = `
  position::text, id::text, to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS occurred_at,
  tenant_id, client_id, action, object, outcome, status_code::text, error_code, request_id, address, certificate`;

/** A row of `audit_events`, as {@link SEALED_COLUMNS} selects it. */
export interface SealedRow {
  readonly position: string;
  readonly id: string;
  readonly occurred_at: string;
  readonly tenant_id: string | null;
  readonly client_id: string | null;
  readonly action: string;
  readonly object: string | null;
  readonly outcome: string;
  readonly status_code: string | null;
  readonly error_code: string | null;
  readonly request_id: string | null;
  readonly address: string | null;
  readonly certificate: string | null;
}

/** A row of `audit_blocks`: which events a range of positions held when it was sealed, and a MAC of each. */
export interface Block {
  /** 1, 2, 3 … without gaps. */
  readonly number: string;
  readonly sealed_at: Date;
  /** The block covers the positions from the previous block's `last_position` (exclusive) to this one (inclusive). */
  readonly last_position: string;
  readonly event_ids: readonly string[];
  /** The events' MACs of 16 bytes each, concatenated in the order of `event_ids`. */
  readonly event_macs: Buffer;
  /** MAC of the previous block; empty for the first. */
  readonly previous: Buffer;
  readonly mac: Buffer;
}

/** HMAC-SHA-256 over all columns of the row, truncated to 128 bits. */
export function rowMac(key: string, row: SealedRow): Buffer {
  const fields = [
    ...[row.position, row.id, row.occurred_at, row.tenant_id, row.client_id, row.action, row.object, row.outcome],
    ...[row.status_code, row.error_code, row.request_id, row.address, row.certificate],
  ];
  return createHmac('sha256', key).update(JSON.stringify(fields)).digest().subarray(0, ROW_MAC_BYTES);
}

/** HMAC-SHA-256 over the block. It includes the previous block's MAC, and thereby covers all earlier blocks. */
export function blockMac(key: string, block: Omit<Block, 'mac'>): Buffer {
  const { number, sealed_at, last_position, event_ids, event_macs, previous } = block;
  return createHmac('sha256', key)
    .update(JSON.stringify([number, sealed_at.toISOString(), last_position, event_ids]))
    .update(event_macs)
    .update(previous)
    .digest();
}

/** The MACs of the block's events by event id. An id has several if it occurs more than once. */
export function macsOf({ event_ids, event_macs }: Block): Map<string, Buffer[]> {
  const macs = new Map<string, Buffer[]>();
  for (const [index, id] of event_ids.entries()) {
    const mac = event_macs.subarray(index * ROW_MAC_BYTES, (index + 1) * ROW_MAC_BYTES);
    macs.set(id, [...(macs.get(id) ?? []), mac]);
  }
  return macs;
}
