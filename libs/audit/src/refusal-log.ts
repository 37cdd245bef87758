import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { newContext, runInContext } from '@platform/request-context';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter } from 'prom-client';
import { type AuditRow, auditRow } from './audit-row';
import { AuditTrail } from './audit-trail';

/** Most rows in the queue. Further refusals are only counted, and their number is recorded. */
const MAX_WAITING = 5_000;
/**
 * Token bucket for refusals that no rate limit bounds: of unauthenticated calls, and of calls over their limit (429).
 * At the steady refill rate they come to 0.4 GB a day for each process.
 */
const MAX_UNLIMITED = 600;
const UNLIMITED_A_SECOND = 10;
const BATCH_ROWS = 500;
/** Refusals within this time are written in one statement. */
const GATHER_MS = 250;
const RETRY_MS = 1_000;

/**
 * Writes refused calls to the audit trail asynchronously and in batches: a refusal does not wait for the database, and
 * a storm of them takes few statements.
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

  /** Writes what is left. The database is closed after this. */
  async onApplicationShutdown(): Promise<void> {
    await this.writing;
    clearTimeout(this.timer);
    do await this.write();
    while (this.waiting.length > 0 && !this.hasFailed);
    const lost = this.waiting.length + this.dropped;
    if (lost > 0) {
      this.logger.error(
        { lost },
        'Refusals could not be written to the audit trail before the process ended; the log has a line for each',
      );
    }
  }

  private schedule(ms: number): void {
    this.timer ??= setTimeout(() => {
      // Never two at once: both would write the same rows from the head of the queue.
      this.writing = this.write().finally(() => {
        this.timer = undefined;
        if (this.waiting.length + this.dropped > 0) this.schedule(this.hasFailed ? RETRY_MS : GATHER_MS);
      });
    }, ms).unref();
  }

  /** Writes the queue. On failure the rows stay queued. */
  private async write(): Promise<void> {
    try {
      // Without a client's context: the rows belong to many clients.
      await runInContext(newContext(), async () => {
        // Rows that arrive meanwhile wait for the next call, unless they fill a batch.
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
        this.logger.warn(
          { err: error, waiting: this.waiting.length },
          'Refusals cannot be written to the audit trail at the moment; they wait in memory',
        );
      this.hasFailed = true;
    }
  }
}
