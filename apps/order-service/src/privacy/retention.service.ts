import { Inject, Injectable, Logger } from '@nestjs/common';
import { BackgroundWork } from '@platform/background';
import { CONFIG, type Config } from '@platform/config';
import { type DirectConnection, isRetryable, withDirectConnection } from '@platform/database';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter, Gauge } from 'prom-client';
import { type Queryable, type RetentionRule, retentionRules } from './retention-rules';

const PURPOSE = 'retention';
/** Small enough to be deleted well within the statement timeout, also on a slow disk. */
const BATCH_ROWS = 1_000;
/** Nobody waits for it, so it may take longer than a request's statement. */
const ANSWER_TIMEOUT_MS = 11_000;
const ATTEMPTS = 5;
const PAUSE_MS = 50;
const INTERVAL_MS = 600_000;
const MAX_COUNT_MS = 300_000;
/** Held by the worker that deletes, so that only one of several does the work. Chosen at random, and never changed. */
const LOCK = 5_126_993_071_284;

/** Deletes what has been kept for long enough, in small batches, every ten minutes. */
@Injectable()
export class RetentionService extends BackgroundWork {
  private readonly logger = new Logger(RetentionService.name);
  private sweeping: Promise<Record<string, number> | undefined> | undefined;

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @InjectMetric('retention_deleted_total') private readonly deleted: Counter<'table'>,
    @InjectMetric('retention_last_success_timestamp_seconds') private readonly lastSuccess: Gauge,
  ) {
    super();
  }

  /** @returns number of expired rows by table */
  async count(): Promise<Record<string, number>> {
    const counts: Record<string, number> = {};
    // An operator waits for it, so it may take longer than a request's statement.
    await withDirectConnection([this.config, PURPOSE, MAX_COUNT_MS], async (client) => {
      for (const { table, count } of retentionRules(this.config)) counts[table] = await count(queryableOf(client));
    });
    return counts;
  }

  /**
   * Joins the sweep that is under way in this process: a second one would take its lock for another process's.
   * @returns number of deleted rows by table; undefined when another process is deleting, or this one shuts down
   * @throws {AggregateError} what failed, after all other tables were swept
   */
  sweep(): Promise<Record<string, number> | undefined> {
    this.sweeping ??= this.sweepAll().finally(() => (this.sweeping = undefined));
    return this.sweeping;
  }

  private sweepAll(): Promise<Record<string, number> | undefined> {
    return withDirectConnection([this.config, PURPOSE, ANSWER_TIMEOUT_MS], async (client) => {
      await client.query("SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '5s'");
      const { rows } = await client.query<{ acquired: boolean }>('SELECT pg_try_advisory_lock($1) AS acquired', [LOCK]);
      return rows[0]?.acquired ? this.sweepTables(client) : undefined;
    });
  }

  private async sweepTables(client: DirectConnection): Promise<Record<string, number> | undefined> {
    const counts: Record<string, number> = {};
    const failures: Error[] = [];
    for (const rule of retentionRules(this.config)) {
      try {
        const count = await this.sweepTable(client, rule);
        if (count === undefined) return undefined;
        counts[rule.table] = count;
      } catch (error) {
        failures.push(new Error(`${rule.table}: ${(error as Error).message}`, { cause: error }));
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, failures.map(({ message }) => message).join('; '));
    this.lastSuccess.setToCurrentTime();
    return counts;
  }

  private async sweepTable(
    client: DirectConnection,
    { table, start, deleteBatch }: RetentionRule,
  ): Promise<number | undefined> {
    let count = 0;
    let after: string | undefined = start;
    while (after !== undefined) {
      if (this.stop.signal.aborted) return undefined;
      const from: string = after;
      const batch = await inTransaction(client, (db) => deleteBatch(db, from, BATCH_ROWS));
      count += batch.deleted;
      this.deleted.inc({ table }, batch.deleted);
      after = batch.next;
      await this.pause(PAUSE_MS);
    }
    return count;
  }

  protected async run(): Promise<void> {
    for (;;) {
      await this.pause(INTERVAL_MS * (0.5 + Math.random()));
      if (this.stop.signal.aborted) return;
      await this.sweep().catch((error: unknown) =>
        this.logger.warn(
          { err: error },
          'Expired rows could not be deleted; they are tried again in ten minutes or so',
        ),
      );
    }
  }
}

const queryableOf = (client: DirectConnection): Queryable => ({
  query: async <T>(text: string, values: unknown[]) => (await client.query(text, values)).rows as T,
});

async function inTransaction<T>(client: DirectConnection, work: (db: Queryable) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await client.query('BEGIN');
      const result = await work(queryableOf(client));
      await client.query('COMMIT');
      return result;
    } catch (error) {
      await client.query('ROLLBACK').catch(() => undefined);
      if (attempt === ATTEMPTS || !isRetryable(error)) throw error;
    }
  }
}
