import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { newContext, runInContext } from '@platform/request-context';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter } from 'prom-client';
import { type AuditRow, auditRow } from './audit-row';
import { AuditTrail } from './audit-trail';

/** Rows that wait at most; those beyond are counted, and the count is written down. */
const MAX_WAITING = 5_000;
/**
 * A bucket of tokens for the refusals that no rate limit bounds: those of unknown callers, and those beyond a limit. Filled
 * without a pause they come to 0.4 GB a day, for each process.
 */
const MAX_UNLIMITED = 600;
const UNLIMITED_A_SECOND = 10;
const BATCH_ROWS = 500;
/** Refusals that come within this time share a statement. */
const GATHER_MS = 250;
const RETRY_MS = 1_000;

/**
 * Refused calls, on their way to the audit trail behind the answers: a refusal waits for no database, and a storm of them
 * is written in few statements.
 */
@Injectable()
export class RefusalLog implements OnApplicationShutdown {
  private readonly logger = new Logger(RefusalLog.name);
  private readonly waiting: AuditRow[] = [];
  private dropped = 0;
  private timer: NodeJS.Timeout | undefined;
  private hasFailed = false;
  private budget = MAX_UNLIMITED;
  private budgetedAt = 0;
  private writing: Promise<void> | undefined;

  constructor(
    private readonly trail: AuditTrail,
    @InjectMetric('audit_refusals_dropped_total') private readonly droppedTotal: Counter,
  ) {}

  add(row: AuditRow): void {
    if (this.waiting.length >= MAX_WAITING || this.isBeyondBudget(row)) {
      this.dropped += 1;
      this.droppedTotal.inc();
      this.schedule(GATHER_MS);
      return;
    }
    this.waiting.push(row);
    this.schedule(GATHER_MS);
  }

  private isBeyondBudget({ client_id: clientId, status_code: statusCode }: AuditRow): boolean {
    if (clientId !== null && statusCode !== 429) return false;
    const now = performance.now();
    const refill = ((now - this.budgetedAt) / 1_000) * UNLIMITED_A_SECOND;
    this.budget = Math.min(MAX_UNLIMITED, this.budget + refill);
    this.budgetedAt = now;
    if (this.budget < 1) return true;
    this.budget -= 1;
    return false;
  }

  /** The database is closed after this. */
  async onApplicationShutdown(): Promise<void> {
    await this.writing;
    clearTimeout(this.timer);
    do await this.write();
    while (this.waiting.length > 0 && !this.hasFailed);
    const lost = this.waiting.length + this.dropped;
    if (lost > 0) {
      this.logger.error(
        { lost },
        'Refusals could not be written to the audit trail before the end; the log has a line of each',
      );
    }
  }

  private schedule(ms: number): void {
    this.timer ??= setTimeout(() => {
      // One after the other: two at once would both write the rows at the front.
      this.writing = this.write().finally(() => {
        this.timer = undefined;
        if (this.waiting.length + this.dropped > 0) this.schedule(this.hasFailed ? RETRY_MS : GATHER_MS);
      });
    }, ms).unref();
  }

  /** Writes what waits. What cannot be written goes on waiting. */
  private async write(): Promise<void> {
    try {
      // Not in the context of whichever request came first: the rows are many clients'.
      await runInContext(newContext(), async () => {
        // What comes meanwhile gathers for the next time, unless it is a batch already.
        do {
          const rows = this.waiting.slice(0, BATCH_ROWS);
          await this.trail.append(rows);
          this.waiting.splice(0, rows.length);
        } while (this.waiting.length >= BATCH_ROWS);
        const { dropped } = this;
        if (dropped === 0) return;
        await this.trail.append([
          auditRow({ action: 'audit.refusals_dropped', object: String(dropped), outcome: 'refused' }),
        ]);
        this.dropped -= dropped;
      });
      this.hasFailed = false;
    } catch (error) {
      if (!this.hasFailed)
        this.logger.warn({ err: error, waiting: this.waiting.length }, 'Refusals cannot be written down; they wait');
      this.hasFailed = true;
    }
  }
}
