import type { DirectConnection } from '@platform/database';
import { type Block, blockMac, macsOf, rowMac, SEALED_COLUMNS, type SealedRow } from './audit-chain';

/** Something that is not as it was when it was sealed. */
export interface AuditFault {
  readonly what: 'edited' | 'inserted' | 'removed';
  /** The event's UUID, or the block's number. */
  readonly event?: string;
  readonly block?: string;
  /** What else helps to find it. */
  readonly detail: string;
}

export interface AuditVerdict {
  readonly blocks: number;
  readonly events: number;
  /** Blocks at the beginning whose events retention has taken, as it takes whole blocks only. */
  readonly prunedBlocks: number;
  readonly prunedUntil: Date | undefined;
  /** Events after the last block: nothing can be said about them yet. */
  readonly unsealed: number;
  /** Number and MAC of the last block, to be kept elsewhere: a chain that is cut at its end cannot say so itself. */
  readonly head: string | undefined;
  readonly faults: readonly AuditFault[];
}

const BLOCKS_AT_ONCE = 50;
/** Retention takes nothing that is younger: `prune_audit_events` in the database sees to it. */
const SPARED_DAYS = 30;

/** Reads the whole audit trail and finds whatever was edited, removed or inserted after it was sealed. */
export class AuditVerifier {
  private readonly faults: AuditFault[] = [];
  private blocks = 0;
  private events = 0;
  private prunedBlocks = 0;
  private prunedUntil: Date | undefined;
  private last: Block | undefined;

  /** @param keys those that blocks may have been sealed with */
  constructor(
    private readonly client: DirectConnection,
    private readonly keys: readonly string[],
  ) {}

  /** @param head of an earlier verdict: that block must still stand */
  async verify(head?: string): Promise<AuditVerdict> {
    // One snapshot: what is sealed meanwhile must not look inserted.
    await this.client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    let isHeadThere = head === undefined;
    for (;;) {
      const { rows } = await this.client.query<Block>(
        'SELECT * FROM audit_blocks WHERE number > $1 ORDER BY number LIMIT $2',
        [this.last?.number ?? '0', BLOCKS_AT_ONCE],
      );
      for (const block of rows) {
        await this.verifyBlock(block);
        isHeadThere ||= headOf(block) === head;
      }
      if (rows.length < BLOCKS_AT_ONCE) break;
    }
    if (!isHeadThere) {
      this.faults.push({ what: 'removed', block: head?.split(':')[0], detail: 'the block that was given as head' });
    }
    const { rows } = await this.client.query<{ unsealed: number }>(
      'SELECT count(*)::int AS unsealed FROM audit_events WHERE position > $1',
      [this.last?.last_position ?? '0'],
    );
    await this.client.query('COMMIT');
    const { blocks, events, prunedBlocks, prunedUntil, faults, last } = this;
    const unsealed = rows[0]?.unsealed ?? 0;
    return { blocks, events, prunedBlocks, prunedUntil, unsealed, head: last && headOf(last), faults };
  }

  private async verifyBlock(block: Block): Promise<void> {
    const before = this.last;
    const { number } = block;
    const expected = BigInt(before?.number ?? 0) + 1n;
    if (BigInt(number) !== expected) {
      const gap = `${expected} to ${BigInt(number) - 1n}`;
      this.faults.push({ what: 'removed', block: gap, detail: `blocks before block ${number}` });
    } else if (!block.previous.equals(before?.mac ?? Buffer.alloc(0))) {
      this.faults.push({ what: 'edited', block: String(expected - 1n), detail: `block ${number} follows another one` });
    }
    const key = this.keys.find((key) => blockMac(key, block).equals(block.mac));
    if (key === undefined) {
      this.faults.push({ what: 'edited', block: number, detail: 'its MAC fits no key' });
    }
    await this.verifyEvents(block, before?.last_position ?? '0', key ?? this.keys[0] ?? '');
    this.blocks += 1;
    this.last = block;
  }

  private async verifyEvents(block: Block, after: string, key: string): Promise<void> {
    const { rows } = await this.client.query<SealedRow>(
      `SELECT ${SEALED_COLUMNS} FROM audit_events WHERE position > $1 AND position <= $2 ORDER BY audit_events.position`,
      [after, block.last_position],
    );
    const isOld = block.sealed_at.getTime() < Date.now() - SPARED_DAYS * 86_400_000;
    if (rows.length === 0 && isOld && this.prunedBlocks === this.blocks) {
      this.prunedBlocks += 1;
      this.prunedUntil = block.sealed_at;
      return;
    }
    this.events += rows.length;
    const sealed = macsOf(block);
    for (const row of rows) {
      const detail = `position ${row.position}, block ${block.number}, ${row.occurred_at}Z, ${row.action}`;
      const mac = sealed.get(row.id);
      if (mac === undefined) this.faults.push({ what: 'inserted', event: row.id, detail });
      else if (!mac.equals(rowMac(key, row))) this.faults.push({ what: 'edited', event: row.id, detail });
      sealed.delete(row.id);
    }
    for (const event of sealed.keys()) {
      this.faults.push({
        what: 'removed',
        event,
        detail: `block ${block.number}, sealed ${block.sealed_at.toISOString()}`,
      });
    }
  }
}

/** Number and MAC of a block. */
function headOf({ number, mac }: Block): string {
  return `${number}:${mac.toString('hex')}`;
}
