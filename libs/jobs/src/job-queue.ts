import { Injectable } from '@nestjs/common';
import { currentContext, traceparent } from '@platform/request-context';
import type { EntityManager } from 'typeorm';

/** Of the request, event or job in which a job was enqueued. */
export interface JobOrigin {
  readonly requestId?: string;
  readonly traceparent?: string;
}

interface Scheduling {
  /** Of jobs with the same key one waits at most: a later one takes the place of an earlier one that has not begun. */
  readonly key: string;
  /** How long to wait before it is run, in milliseconds. */
  readonly delayMs?: number;
}

/** Jobs are given up by the code that runs them, never by their number of runs; this is the most that a job can have. */
const MAX_ATTEMPTS = 32_767;

/** Puts jobs into the queue, which is a table of the same database: a job exists if and only if `tx` commits. */
@Injectable()
export class JobQueue {
  async enqueue(tx: EntityManager, task: string, payload: object, { key, delayMs = 0 }: Scheduling): Promise<void> {
    const context = currentContext();
    const origin: JobOrigin = context ? { requestId: context.requestId, traceparent: traceparent(context.trace) } : {};
    await tx.query(
      `SELECT graphile_worker.add_job($1::text, $2::json, job_key := $3::text, max_attempts := $4::integer,
                                      run_at := now() + $5::integer * interval '1 millisecond')`,
      [task, JSON.stringify({ ...payload, origin }), key, MAX_ATTEMPTS, Math.round(delayMs)],
    );
  }
}
