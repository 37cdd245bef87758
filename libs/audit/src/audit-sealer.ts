import { Inject, Injectable, Logger } from '@nestjs/common';
import { BackgroundWork } from '@platform/background';
import { CONFIG, type Config } from '@platform/config';
import { Database, type Transaction } from '@platform/database';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter, Gauge } from 'prom-client';
import { type Block, blockMac, rowMac, SEALED_COLUMNS, type SealedRow } from './audit-chain';

const SEAL_EVERY_MS = 1_000;
const BLOCK_ROWS = 1_000;

/** Held by the process that seals, until its transaction ends. Chosen at random, and never changed. */
const SEALER_LOCK = 4_911_302_857_116;

/**
 * The newest position that was seen, and a transaction id taken after it: once all older transactions have ended, no
 * more rows can appear up to that position.
 */
interface Mark {
  /** Position of the newest event, 0 if there is none. */
  readonly newest: string;
  readonly horizon: string;
}

/**
 * Chains what has been written to the audit trail, behind the writers. A block covers a range of positions, so it must
 * wait until nobody can commit a row within it any more: until every transaction has ended that was under way when the
 * range was chosen. The column `audit_events.transaction` ensures that a row gets its transaction id before its
 * position.
 */
@Injectable()
export class AuditSealer extends BackgroundWork {
  private readonly logger = new Logger(AuditSealer.name);
  private readonly key: string;
  private mark: Mark | undefined;
  /** The newest block when the trail was last read. */
  private seen: Pick<Block, 'number' | 'mac'> | undefined;

  constructor(
    @Inject(CONFIG) config: Config,
    private readonly database: Database,
    @InjectMetric('audit_sealed_block') private readonly sealedBlock: Gauge,
    @InjectMetric('audit_unsealed_events') private readonly unsealed: Gauge,
    @InjectMetric('audit_cuts_total') private readonly cuts: Counter,
  ) {
    super();
    const [key] = config.auditKeys ?? [];
    if (key === undefined) throw new Error('AUDIT_KEY is required');
    this.key = key;
  }

  protected async run(): Promise<void> {
    this.clearGauges();
    let hasFailed = false;
    while (!this.stop.signal.aborted) {
      try {
        let isMore = true;
        while (isMore && !this.stop.signal.aborted) isMore = await this.database.inTransaction((tx) => this.seal(tx));
        hasFailed = false;
      } catch (error) {
        this.mark = undefined; // it may come from a server that is gone
        this.clearGauges();
        if (!hasFailed) this.logger.warn({ err: error }, 'The audit trail cannot be sealed at the moment');
        hasFailed = true;
      }
      await this.pause(SEAL_EVERY_MS);
    }
  }

  /** While the trail cannot be read: 0 would look like a trail that was cut, stale values like one that is intact. */
  private clearGauges(): void {
    for (const gauge of [this.sealedBlock, this.unsealed]) gauge.remove();
  }

  /** Seals one block if there is one to seal. @returns whether it did, so that there may be another */
  private async seal(tx: Transaction): Promise<boolean> {
    await this.measure(tx); // also while another process seals, or pretends to
    const [lock] = await tx.query<{ held: boolean; now: Date }[]>(
      "SELECT pg_try_advisory_xact_lock($1) AS held, date_trunc('milliseconds', now()) AS now",
      [SEALER_LOCK],
    );
    if (!lock?.held) {
      this.mark = undefined;
      return false;
    }
    const [head] = await tx.query<Block[]>('SELECT * FROM audit_blocks ORDER BY number DESC LIMIT 1');
    const sealedTo = head?.last_position ?? '0';
    const end = await this.settledEnd(tx, sealedTo);
    if (end === undefined) return false;

    const rows = await tx.query<SealedRow[]>(
      `SELECT ${SEALED_COLUMNS} FROM audit_events WHERE position > $1 AND position <= $2 ORDER BY audit_events.position LIMIT $3`,
      [sealedTo, end, BLOCK_ROWS],
    );
    const last = rows.at(-1);
    if (!last) {
      this.mark = undefined; // the rows that it covers were deleted
      return false;
    }
    const block = {
      number: String(BigInt(head?.number ?? 0) + 1n),
      sealed_at: lock.now,
      last_position: last.position,
      event_ids: rows.map(({ id }) => id),
      event_macs: Buffer.concat(rows.map((row) => rowMac(this.key, row))),
      previous: head?.mac ?? Buffer.alloc(0),
    };
    await tx.query(
      `INSERT INTO audit_blocks (number, sealed_at, last_position, event_ids, event_macs, previous, mac)
       VALUES ($1, $2, $3, $4, $5, $6, $7)`,
      [
        block.number,
        block.sealed_at,
        block.last_position,
        block.event_ids,
        block.event_macs,
        block.previous,
        blockMac(this.key, block),
      ],
    );
    return true;
  }

  private async measure(tx: Transaction): Promise<void> {
    const [trail] = await tx.query<{ number: string | null; mac: Buffer; unsealed: string; seen: Buffer | null }[]>(
      `SELECT head.number, head.mac,
              (SELECT coalesce(max(position), 0) FROM audit_events) - coalesce(head.last_position, 0) AS unsealed,
              (SELECT mac FROM audit_blocks WHERE number = $1) AS seen
       FROM (SELECT) AS always LEFT JOIN (SELECT * FROM audit_blocks ORDER BY number DESC LIMIT 1) AS head ON true`,
      [this.seen?.number ?? null],
    );
    if (!trail) return;
    // The numbers of blocks that were cut off are soon used again, but not with the same MACs.
    if (this.seen && !trail.seen?.equals(this.seen.mac)) {
      this.logger.error({ block: this.seen.number }, 'The audit trail has lost a block: its end was cut off');
      this.cuts.inc();
    }
    this.seen = trail.number === null ? undefined : { number: trail.number, mac: trail.mac };
    this.sealedBlock.set(Number(trail.number));
    this.unsealed.set(Math.max(0, Number(trail.unsealed)));
  }

  /** The position up to which nothing more can appear, if it is beyond what is sealed. */
  private async settledEnd(tx: Transaction, sealedTo: string): Promise<string | undefined> {
    const { mark } = this;
    const [now] = await tx.query<(Mark & { settled: boolean })[]>(
      `SELECT coalesce(max(position), 0)::text AS newest, pg_current_xact_id()::text AS horizon,
              pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8 AS settled
       FROM audit_events`,
      [mark?.horizon ?? null],
    );
    if (!now) return undefined;
    const isAnotherServer =
      mark && (BigInt(now.horizon) < BigInt(mark.horizon) || BigInt(now.newest) < BigInt(mark.newest));
    if (mark && !isAnotherServer) {
      if (!now.settled) return undefined;
      if (BigInt(mark.newest) > BigInt(sealedTo)) return mark.newest;
    }
    this.mark = { newest: now.newest, horizon: now.horizon };
    return undefined;
  }
}
