import { Injectable } from '@nestjs/common';
import { currentContext, traceparent } from '@platform/request-context';

/** What a job is enqueued in: TypeORM's manager, or another connection. */
export interface Transaction {
  query(text: string, values: unknown[]): Promise<unknown>;
}

/** Of the request, event or job in which a job was enqueued. */
export interface JobOrigin {
  readonly requestId?: string;
  readonly traceparent?: string;
}

/** Jobs are given up by the code that runs them, never by their number of runs; this is the most that a job can have. */
export const MAX_ATTEMPTS = 32_767;

/**
 * Puts jobs into the queue, which is a table of the same database: a job exists if and only if `tx` commits.
 *
 * Jobs have no keys by which one would take the place of another: the other may be running, in a process that has lost its
 * connection and does not know that it counts as dead, and then both would be gone. Enqueue one too many rather than one
 * too few; a job's handler must bear to be run twice anyway.
 */
@Injectable()
export class JobQueue {
  /** @param delayMs how long to wait before it is run, in milliseconds */
  async enqueue(tx: Transaction, task: string, payload: object, delayMs = 0): Promise<void> {
    await tx.query(`SELECT ${jobInsert(1)}`, jobValues(task, payload, delayMs));
  }
}

/**
 * SQL, a call to select, that enqueues a job within a statement that does something else too.
 * @param first number of the first of the parameters that {@link jobValues} gives
 */
export function jobInsert(first: number): string {
  const [task, payload, attempts, delayMs] = [first, first + 1, first + 2, first + 3].map((number) => `$${number}`);
  return `graphile_worker.add_job(${task}::text, ${payload}::json, max_attempts := ${attempts}::integer,
                                  run_at := now() + ${delayMs}::integer * interval '1 millisecond')`;
}

/** As {@link JobQueue.enqueue} takes them: the job continues the trace of the work under way. */
export function jobValues(task: string, payload: object, delayMs = 0): unknown[] {
  const context = currentContext();
  const origin: JobOrigin = context ? { requestId: context.requestId, traceparent: traceparent(context.trace) } : {};
  return [task, JSON.stringify({ ...payload, origin }), MAX_ATTEMPTS, Math.round(delayMs)];
}
