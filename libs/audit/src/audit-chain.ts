import { createHmac } from 'node:crypto';

/** Of a row's MAC. 128 bits, because a block keeps one for each of its rows. */
const ROW_MAC_BYTES = 16;

/** The columns of `audit_events` that a MAC covers, as text, in the order in which they are hashed. */
export const SEALED_COLUMNS = `
  position::text, id::text, to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS occurred_at,
  tenant_id, client_id, action, object, outcome, status_code::text, error_code, request_id, address, certificate`;

/** A row of `audit_events`, read by {@link SEALED_COLUMNS}. */
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

/** A row of `audit_blocks`: which rows of the trail there were from one position to another, and what they said. */
export interface Block {
  /** 1, 2, 3 … without gaps. */
  readonly number: string;
  readonly sealed_at: Date;
  /** The block covers the positions after the block before it, up to this one. */
  readonly last_position: string;
  readonly event_ids: readonly string[];
  /** One MAC for each event, one after the other. */
  readonly event_macs: Buffer;
  /** MAC of the block before; empty for the first. */
  readonly previous: Buffer;
  readonly mac: Buffer;
}

/** HMAC-SHA-256, cut to 128 bits, over all that the row says. */
export function rowMac(key: string, row: SealedRow): Buffer {
  const fields = [
    ...[row.position, row.id, row.occurred_at, row.tenant_id, row.client_id, row.action, row.object, row.outcome],
    ...[row.status_code, row.error_code, row.request_id, row.address, row.certificate],
  ];
  return createHmac('sha256', key).update(JSON.stringify(fields)).digest().subarray(0, ROW_MAC_BYTES);
}

/** HMAC-SHA-256 over the block and, by the MAC before, over all blocks before it. */
export function blockMac(key: string, block: Omit<Block, 'mac'>): Buffer {
  const { number, sealed_at, last_position, event_ids, event_macs, previous } = block;
  return createHmac('sha256', key)
    .update(JSON.stringify([number, sealed_at.toISOString(), last_position, event_ids]))
    .update(event_macs)
    .update(previous)
    .digest();
}

/** MACs of the events of the block, by the event's id. */
export function macsOf({ event_ids, event_macs }: Block): Map<string, Buffer[]> {
  const macs = new Map<string, Buffer[]>();
  for (const [index, id] of event_ids.entries()) {
    const mac = event_macs.subarray(index * ROW_MAC_BYTES, (index + 1) * ROW_MAC_BYTES);
    macs.set(id, [...(macs.get(id) ?? []), mac]);
  }
  return macs;
}
