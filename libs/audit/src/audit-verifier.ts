import type { DirectConnection } from '@platform/database';
import { type Block, blockMac, macsOf, rowMac, SEALED_COLUMNS, type SealedRow } from './audit-chain';

/** A difference between the trail and what was sealed. */
export interface AuditFault {
  readonly what: 'edited' | 'inserted' | 'removed';
  /** UUID of the event, or else the number (or range of numbers) of the block. */
  readonly event?: string;
  readonly block?: string;
  /** Further text that helps to locate the fault. */
  readonly detail: string;
}

export interface AuditVerdict {
  /** Number of the block after which verification began; undefined if the whole trail was verified. */
  readonly after: string | undefined;
  readonly blocks: number;
  readonly events: number;
  /** Number of the oldest blocks whose events retention has deleted. It only deletes the events of whole blocks. */
  readonly prunedBlocks: number;
  readonly prunedUntil: Date | undefined;
  /** Events after the last block. They are not covered yet, so nothing can be said about them. */
  readonly unsealed: number;
  /** `NUMBER:MAC` of the last block. Keep it elsewhere: a chain that was cut off at its end looks intact. */
  readonly head: string | undefined;
  readonly faults: readonly AuditFault[];
}

const BLOCKS_AT_ONCE = 50;
/** Retention never deletes events of younger blocks: `prune_audit_events` in the database enforces it. */
const MIN_RETENTION_DAYS = 30;
const BEFORE_ALL = '-9223372036854775808';
const AFTER_ALL = '9223372036854775807';

/** Reports what in the audit trail was edited, removed or inserted after it was sealed. For a single verification. */
export class AuditVerifier {
  private readonly faults: AuditFault[] = [];
  private readonly keptSince: number;
  private blocks = 0;
  private events = 0;
  private prunedBlocks = 0;
  private prunedUntil: Date | undefined;
  private after: string | undefined;
  private last: Block | undefined;

  /**
   * @param keys all keys with which blocks may have been sealed
   * @param retentionDays age in days from which missing events count as deleted by retention; 0 if it deletes none
   */
  constructor(
    private readonly client: DirectConnection,
    private readonly keys: readonly string[],
    retentionDays: number,
  ) {
    this.keptSince =
      retentionDays === 0 ? -Infinity : Date.now() - Math.max(retentionDays, MIN_RETENTION_DAYS) * 86_400_000;
  }

  /** @param head from an earlier verdict: only later blocks are verified, unless that block no longer exists */
  async verify(head?: string): Promise<AuditVerdict> {
    if (head !== undefined) await this.beginAfter(head);
    for (;;) {
      const { rows: blocks } = await this.client.query<Block>(
        'SELECT * FROM audit_blocks WHERE number > $1 ORDER BY number LIMIT $2',
        [this.last?.number ?? BEFORE_ALL, BLOCKS_AT_ONCE],
      );
      const { rows: events } = await this.client.query<SealedRow>(
        `SELECT ${SEALED_COLUMNS} FROM audit_events WHERE position > $1 AND position <= $2
         ORDER BY audit_events.position`,
        [this.last?.last_position ?? BEFORE_ALL, blocks.at(-1)?.last_position ?? BEFORE_ALL],
      );
      // Read last: if retention deleted events before they were read above, this minimum is beyond them.
      const { rows: oldest } = await this.client.query<{ first: string | null }>(
        'SELECT min(position)::text AS first FROM audit_events',
      );
      const first = BigInt(oldest[0]?.first ?? AFTER_ALL);
      let from = 0;
      for (const block of blocks) {
        const end = events.findIndex(({ position }) => BigInt(position) > BigInt(block.last_position));
        this.verifyBlock(block, events.slice(from, end === -1 ? undefined : end), first);
        from = end === -1 ? events.length : end;
      }
      if (blocks.length < BLOCKS_AT_ONCE) break;
    }
    const { rows } = await this.client.query<{ unsealed: number }>(
      'SELECT count(*)::int AS unsealed FROM audit_events WHERE position > $1',
      [this.last?.last_position ?? BEFORE_ALL],
    );
    const { after, blocks, events, prunedBlocks, prunedUntil, faults, last } = this;
    const unsealed = rows[0]?.unsealed ?? 0;
    return { after, blocks, events, prunedBlocks, prunedUntil, unsealed, head: last && headOf(last), faults };
  }

  /** If the block is no longer there, that is a fault, and everything else is verified. */
  private async beginAfter(head: string): Promise<void> {
    const [number] = head.split(':');
    const { rows } = await this.client.query<Block>('SELECT * FROM audit_blocks WHERE number = $1', [number]);
    const [block] = rows;
    if (block === undefined || headOf(block) !== head) {
      this.faults.push({ what: 'removed', block: number, detail: 'the block that was given as head' });
      return;
    }
    this.keyOf(block); // its position, too, must be as it was sealed: what comes later begins there
    this.after = number;
    this.last = block;
  }

  /** The key with which a block was sealed; if there is none, that is a fault. */
  private keyOf(block: Block): string | undefined {
    const key = this.keys.find((key) => blockMac(key, block).equals(block.mac));
    if (key === undefined) {
      this.faults.push({ what: 'edited', block: block.number, detail: 'its MAC fits no key in AUDIT_KEY' });
    }
    return key;
  }

  /** @param first position of the oldest event that still exists */
  private verifyBlock(block: Block, events: readonly SealedRow[], first: bigint): void {
    const before = this.last;
    const { number } = block;
    const expected = BigInt(before?.number ?? 0) + 1n;
    if (BigInt(number) !== expected) {
      const gap = `${expected} to ${BigInt(number) - 1n}`;
      this.faults.push({ what: 'removed', block: gap, detail: `blocks before block ${number}` });
    } else if (!block.previous.equals(before?.mac ?? Buffer.alloc(0))) {
      this.faults.push({ what: 'edited', block: String(expected - 1n), detail: `block ${number} follows another one` });
    }
    const key = this.keyOf(block);
    this.blocks += 1;
    const isOld = block.sealed_at.getTime() < this.keptSince;
    if (events.length === 0 && isOld && first > BigInt(block.last_position)) {
      this.prunedBlocks = Number(number);
      this.prunedUntil = block.sealed_at;
    } else {
      this.verifyEvents(block, events, key);
    }
    this.last = block;
  }

  /** @param key undefined if there is none for this block: then only the ids can be compared */
  private verifyEvents(block: Block, events: readonly SealedRow[], key: string | undefined): void {
    this.events += events.length;
    const sealed = macsOf(block);
    for (const event of events) {
      const detail = `position ${event.position}, block ${block.number}, ${event.occurred_at}Z, ${event.action}`;
      const macs = sealed.get(event.id);
      if (macs === undefined) {
        this.faults.push({ what: 'inserted', event: event.id, detail });
        continue;
      }
      const mac = key === undefined ? macs[0] : rowMac(key, event);
      const place = macs.findIndex((candidate) => mac?.equals(candidate));
      if (place === -1) this.faults.push({ what: 'edited', event: event.id, detail });
      macs.splice(Math.max(place, 0), 1);
      if (macs.length === 0) sealed.delete(event.id);
    }
    for (const event of sealed.keys()) {
      const detail = `block ${block.number}, sealed ${block.sealed_at.toISOString()}`;
      this.faults.push({ what: 'removed', event, detail });
    }
  }
}

function headOf({ number, mac }: Block): string {
  return `${number}:${mac.toString('hex')}`;
}
