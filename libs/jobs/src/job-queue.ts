import { Injectable } from '@nestjs/common';
import type { DirectConnection, Transaction } from '@platform/database';
import { currentContext, type RequestContext, traceparent } from '@platform/request-context';

interface Connection {
  query(text: string, values: unknown[]): Promise<unknown>;
}

/** Of the request, event or job in which a job was enqueued. */
export interface JobOrigin {
  readonly requestId?: string;
  readonly traceparent?: string;
}

/** JSON. Two names in it are the queue's own. */
export type JobPayload = Readonly<Record<string, unknown>> & { readonly origin?: never; readonly failures?: never };

export interface NewJob {
  readonly payload: JobPayload;
  /** Of the work that enqueues it, whose trace it continues. */
  readonly context: RequestContext | undefined;
}

/** Jobs are given up by the code that runs them, never by their number of runs; this is the most that a job can have. */
const MAX_ATTEMPTS = 32_767;

/**
 * Puts jobs into the queue, which is a table of the same database: a job exists if and only if `tx` commits.
 *
 * Jobs have no keys by which one would take the place of another: the other may be running, in a process that has lost its
 * connection and does not know that it counts as dead, and then both would be gone. Enqueue one too many rather than one
 * too few; a job's handler must bear to be run twice anyway.
 */
@Injectable()
export class JobQueue {
  /**
   * The job continues the trace of the work under way.
   * @param delayMs how long to wait before it is run, in milliseconds
   */
  async enqueue(tx: Transaction | DirectConnection, task: string, payload: JobPayload, delayMs = 0): Promise<void> {
    await addPayload(tx, task, toPayload({ payload, context: currentContext() }), delayMs);
  }

  /**
   * For a job that has to be run again: the next run's span is a sibling of this run's, not its child, so that a day of
   * retries does not nest a thousand levels deep.
   */
  async enqueueAgain(
    tx: Transaction | DirectConnection,
    task: string,
    payload: JobPayload,
    delayMs: number,
  ): Promise<void> {
    const context = currentContext();
    const { parentSpanId: spanId } = context?.trace ?? {};
    const before = context && spanId !== undefined ? { ...context, trace: { ...context.trace, spanId } } : context;
    await addPayload(tx, task, toPayload({ payload, context: before }), delayMs);
  }
}

/**
 * @param payload JSON with all that belongs to it, the origin too
 * @param delayMs by the database's clock, by which jobs are due
 */
export async function addPayload(tx: Connection, task: string, payload: string, delayMs: number): Promise<void> {
  await tx.query(
    `SELECT graphile_worker.add_job($1::text, $2::json, max_attempts := $3::integer,
                                    run_at := now() + $4::bigint * interval '1 millisecond')`,
    [task, payload, MAX_ATTEMPTS, Math.round(delayMs)],
  );
}

/**
 * SQL, a `SELECT`, that enqueues many jobs within a statement that does something else too. Each call of Graphile Worker's
 * functions is planned anew, which takes PostgreSQL as long as thirty jobs do.
 * @param first number of the first of the parameters that {@link jobValues} gives
 */
export function jobInsertAll(first: number): string {
  return `SELECT FROM graphile_worker.add_jobs(ARRAY(
    SELECT ($${first}::text, payload::json, NULL, now(), ${MAX_ATTEMPTS}, NULL, NULL, NULL)::graphile_worker.job_spec
    FROM unnest($${first + 1}::text[]) AS payload))`;
}

export function jobValues(task: string, jobs: readonly NewJob[]): unknown[] {
  return [task, jobs.map(toPayload)];
}

function toPayload({ payload, context }: NewJob): string {
  const origin: JobOrigin = context ? { requestId: context.requestId, traceparent: traceparent(context.trace) } : {};
  return JSON.stringify({ ...payload, origin });
}
