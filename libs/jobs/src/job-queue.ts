import { Injectable } from '@nestjs/common';
import type { DirectConnection, Transaction } from '@platform/database';
import { currentContext, type RequestContext, traceparent } from '@platform/request-context';

interface Connection {
  query(text: string, values: unknown[]): Promise<unknown>;
}

/** The request id and trace of the request, event or job that enqueued a job. */
export interface JobOrigin {
  readonly requestId?: string;
  readonly traceparent?: string;
}

/** JSON. `origin` and `failures` are reserved for the queue; an `orderId` names the order in the job's logs and span. */
export type JobPayload = Readonly<Record<string, unknown>> & { readonly origin?: never; readonly failures?: never };

export interface NewJob {
  readonly payload: JobPayload;
  /** Context of the work that enqueues the job. The job continues its trace. */
  readonly context: RequestContext | undefined;
}

interface JobOptions {
  /** Minimum delay before it runs, in milliseconds, by the database's clock, which decides when jobs are due. */
  readonly delayMs?: number;
  /**
   * Runs one job of the task at a time, in all processes together, about one a second, and only when no other job is
   * due: for work that nobody waits for and of which a client can cause any amount.
   */
  readonly oneAtATime?: boolean;
}

/** The most that Graphile Worker allows: a job is given up only by its own code, never for the number of its runs. */
const MAX_ATTEMPTS = 32_767;

/**
 * Enqueues jobs. The queue is a table in the same database: a job exists if and only if `tx` commits.
 *
 * Jobs have no unique keys by which a new job could replace a queued one. The old one may be running in a process that
 * lost its connection and does not know that it counts as dead, and then both would be gone. Rather enqueue one too
 * many than one too few: handlers must tolerate being run twice anyway.
 */
@Injectable()
export class JobQueue {
  /** The job continues the trace of the current work. */
  async enqueue(
    tx: Transaction | DirectConnection,
    task: string,
    payload: JobPayload,
    options?: JobOptions,
  ): Promise<void> {
    await addPayload(tx, task, toPayload({ payload, context: currentContext() }), options);
  }

  /**
   * Enqueues the current job for another run. That run's span is a sibling of this run's, not its child: otherwise a
   * day of retries would nest a thousand levels deep.
   */
  async enqueueAgain(
    tx: Transaction | DirectConnection,
    task: string,
    payload: JobPayload,
    options: JobOptions,
  ): Promise<void> {
    const context = currentContext();
    const { parentSpanId: spanId } = context?.trace ?? {};
    const before = context && spanId !== undefined ? { ...context, trace: { ...context.trace, spanId } } : context;
    await addPayload(tx, task, toPayload({ payload, context: before }), options);
  }
}

/** @param payload JSON, including `origin` */
export async function addPayload(
  tx: Connection,
  task: string,
  payload: string,
  { delayMs = 0, oneAtATime = false }: JobOptions = {},
): Promise<void> {
  await tx.query(
    `SELECT graphile_worker.add_job($1::text, $2::json, max_attempts := $3::integer,
                                    run_at := now() + $4::bigint * interval '1 millisecond',
                                    queue_name := $5::text, priority := $6::integer)`,
    [task, payload, MAX_ATTEMPTS, Math.round(delayMs), oneAtATime ? task : null, oneAtATime ? 1 : 0],
  );
}

/**
 * A `SELECT` that enqueues many jobs, for use within a larger statement. Each call of a Graphile Worker function is
 * planned anew, which takes PostgreSQL as long as thirty jobs do.
 * @param first number of the first of its parameters, which {@link jobValues} gives
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
