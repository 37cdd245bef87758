import { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable, Logger } from '@nestjs/common';
import { BackgroundWork } from '@platform/background';
import { CONFIG, type Config } from '@platform/config';
import { Database, directOptions, FailFastClient, isUnavailable } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { HealthChecks } from '@platform/health';
import { newContext, orderIdOf, runInContext } from '@platform/request-context';
import { OutboundFailure } from '@platform/resilience';
import { errorTypeOf, Spans } from '@platform/tracing';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import {
  Logger as WorkerLogger,
  runTaskList,
  type Task,
  type TaskList,
  type WorkerEvents,
  type WorkerPool,
} from 'graphile-worker';
import { Pool } from 'pg';
import type { Counter, Gauge } from 'prom-client';
import { addPayload, type JobOrigin } from './job-queue';
import { LOCK_CLASS, RunnerPresence } from './runner-presence';

/** How many jobs a process runs at once. They spend most of their time waiting for other services. */
const CONCURRENT_JOBS = 100;
/** In a process that also answers requests: these come first, jobs can wait. */
const CONCURRENT_BESIDE_REQUESTS = 20;
/** One shows that the runner is alive, one listens for new jobs, the others fetch and complete them. */
const CONNECTIONS = 6;
/** New jobs are announced; delayed jobs that have become due are found by polling. */
const POLL_MS = 1_000;
/** How long a job may go on after SIGTERM before its `abort` fires. */
const GRACE_MS = 10_000;
/** How often jobs of dead runners are freed, and the wait of the oldest job is measured. */
const MAINTENANCE_MS = 2_000;
/** How long to wait for the database to answer. */
const ANSWER_TIMEOUT_MS = 10_000;
const MAX_BACKOFF_MS = 5_000;
/** Longest pause between the runs of a job that keeps throwing. */
const MAX_PAUSE_MS = 300_000;
/** Pause before a job is run again that failed because the database or another dependency was unavailable. */
const UNAVAILABLE_PAUSE_MS = 5_000;

const WORKER_OPTIONS = {
  gracefulShutdownAbortTimeout: GRACE_MS,
  // If a delay is set, even 0, Graphile Worker handles failures of these statements; otherwise they end the process.
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  preparedStatements: false,
} satisfies GraphileConfig.WorkerOptions;

const UNABLE = 'jobs cannot be run at the moment; they wait in the database';

/** What the queue knows of a payload. */
interface StoredPayload {
  readonly origin: JobOrigin;
  readonly failures?: number;
  readonly orderId?: unknown;
}

/** How a job learns that the process shuts down. */
export interface JobSignals {
  /** Fires at once: do not begin to wait for anything. */
  readonly stopping: AbortSignal;
  /** Fires when the time for finishing what is under way is up. */
  readonly abort: AbortSignal;
}

export type JobHandler<T> = (payload: T, signals: JobSignals) => Promise<void>;

/**
 * Runs the jobs of the queue (Graphile Worker). A job is run at least once: the jobs of a process that died are run
 * again by another as soon as PostgreSQL has noticed. A handler that throws is run again after a growing pause.
 */
@Injectable()
export class JobRunner extends BackgroundWork {
  private readonly logger = new Logger(JobRunner.name);
  private readonly tasks: TaskList = {};
  private failure: string | undefined = 'not started';

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly database: Database,
    private readonly checks: HealthChecks,
    private readonly spans: Spans,
    @InjectMetric('jobs_total') private readonly jobs: Counter<'task' | 'outcome'>,
    @InjectMetric('jobs_oldest_age_seconds') private readonly oldestAge: Gauge,
  ) {
    super();
  }

  /**
   * Registers the handler of a task's jobs. To be called before the application has started.
   * @throws {Error} if the task has a handler already
   */
  handle<T extends object>(task: string, handler: JobHandler<T>): void {
    if (this.tasks[task]) throw new Error(`The task ${task} has a handler already`);
    this.tasks[task] = this.toTask(task, handler);
  }

  protected async run(): Promise<void> {
    this.checks.reported.set('jobs', async () => {
      if (this.failure !== undefined) throw new Error(this.failure);
    });
    await Promise.all([this.runWithRestarts(), this.maintain()]);
  }

  /** Waits until the jobs under way are finished, unless that takes too long. */
  override async onApplicationShutdown(): Promise<void> {
    await Promise.race([this.running, delay(GRACE_MS + 5_000, undefined, { ref: false })]);
  }

  private toTask<T extends object>(task: string, handler: JobHandler<T>): Task {
    return async (payload, helpers) => {
      const { origin, failures = 0, ...rest } = payload as T & StoredPayload;
      const abort = helpers.abortSignal;
      if (!abort) throw new Error('Graphile Worker passed no abort signal');
      const start = performance.now();
      const context = { ...newContext(origin), orderId: orderIdOf(rest.orderId) };
      const endSpan = (error?: string) => {
        if (!this.spans.has(context.trace)) return;
        const attributes = { 'app.request.id': context.requestId, 'app.order.id': context.orderId };
        this.spans.add(context.trace, { name: `job ${task}`, kind: 'INTERNAL', start, attributes, error });
      };
      await runInContext(context, async () => {
        try {
          await handler(rest as unknown as T, { stopping: this.stop.signal, abort });
          endSpan();
          this.jobs.inc({ task, outcome: 'completed' });
        } catch (error) {
          endSpan(errorTypeOf(error));
          this.jobs.inc({ task, outcome: 'failed' });
          // Retried here and not by Graphile Worker, whose pauses grow to six hours. If this fails too, it is left to
          // Graphile Worker, whose first pause is short.
          const isJobsFault = !saysUnavailable(error);
          const line = { err: error, task, failures: failures + 1 };
          this.logger[isJobsFault ? 'error' : 'warn'](line, 'A job failed; it is run again');
          const pause = isJobsFault ? Math.min(MAX_PAUSE_MS, 1_000 * 2 ** failures) : UNAVAILABLE_PAUSE_MS;
          const again = { ...(payload as object), failures: isJobsFault ? failures + 1 : failures };
          await addPayload(helpers, task, JSON.stringify(again), {
            delayMs: pause * (0.5 + Math.random() / 2),
            oneAtATime: helpers.job.job_queue_id !== null,
          });
        }
      });
    };
  }

  /** A runner that loses the database ends sooner or later. Then a new one is started. */
  private async runWithRestarts(): Promise<void> {
    let failures = 0;
    while (!this.stop.signal.aborted) {
      try {
        await this.runUntilFailure(() => {
          failures = 0;
          this.failure = undefined;
        });
      } catch (error) {
        failures += 1;
        this.failure = UNABLE;
        this.logger.warn({ err: error, failures }, 'The job runner failed; it starts anew');
        await this.pause(Math.min(MAX_BACKOFF_MS, 100 * 2 ** failures) * (0.5 + Math.random() / 2));
      }
    }
  }

  /**
   * Runs one runner until it cannot be relied on: it ends by itself, an answer to one of its statements is lost (jobs
   * that it does not know of may be marked as its own), or it counts as dead. Graphile Worker goes on in some of these
   * cases, and waits for ever in others.
   */
  private async runUntilFailure(onProgress: () => void): Promise<void> {
    const lost = new AbortController();
    const pool = this.openPool((cause) => lost.abort(cause));
    let presence: RunnerPresence | undefined;
    try {
      await pool.query('SELECT FROM graphile_worker._private_jobs LIMIT 1'); // the runner itself would wait for ever
      presence = await RunnerPresence.connect(pool);
      const { runner, stop } = this.startRunner(pool, lost);
      const ended = this.untilEnded(runner, stop, lost.signal);
      const onHeld = () => {
        if (!lost.signal.aborted) onProgress();
      };
      presence.hold(runner.id, onHeld).catch((error: unknown) => lost.abort(error));
      await ended;
      if (!this.stop.signal.aborted)
        throw (lost.signal.reason as Error | undefined) ?? new Error('The job runner ended');
    } finally {
      presence?.release();
      // `end` waits for connections that are in use, and a runner that failed may keep one.
      await Promise.race([pool.end(), delay(2_000, undefined, { ref: false })]);
    }
  }

  /**
   * @param lost aborted when the runner ends
   * @returns the runner, and a function that shuts it down unless it is ending already
   */
  private startRunner(pool: Pool, lost: AbortController): { runner: WorkerPool; stop: () => void } {
    const events: WorkerEvents = new EventEmitter();
    keepLocalQueueBusy(events);
    let isEnding = false;
    events.on('pool:gracefulShutdown', () => {
      isEnding = true;
      lost.abort(new Error('The job runner ended by itself'));
    });
    const concurrency = this.config.roles.includes('api') ? CONCURRENT_BESIDE_REQUESTS : CONCURRENT_JOBS;
    const runner = runTaskList(
      {
        events,
        concurrency,
        pollInterval: POLL_MS,
        noHandleSignals: true,
        logger: new WorkerLogger(() => (level, message, meta) => this.log(level, message, meta?.['failure'] === true)),
        preset: { worker: { ...WORKER_OPTIONS, localQueue: { size: 2 * concurrency, ttl: 5_000 } } },
      },
      this.tasks,
      pool,
    );
    const stop = () => {
      if (!isEnding) void Promise.resolve(runner.gracefulShutdown()).catch(() => undefined);
    };
    return { runner, stop };
  }

  /**
   * Stops the runner when the process shuts down or the runner is lost, and waits until it has ended. One that is lost
   * and does not end in time is left behind, without a pool and with its jobs for the next.
   */
  private async untilEnded(runner: WorkerPool, stop: () => void, lost: AbortSignal): Promise<void> {
    const { promise: leftBehind, resolve: leave } = Promise.withResolvers<void>();
    const onLost = () => {
      if (!this.stop.signal.aborted) this.failure = UNABLE;
      stop();
      setTimeout(leave, GRACE_MS + 5_000).unref();
    };
    this.stop.signal.addEventListener('abort', stop);
    if (this.stop.signal.aborted) stop();
    lost.addEventListener('abort', onLost);
    if (lost.aborted) onLost();
    runner.promise.catch(() => undefined); // also when nobody waits for it any more
    await Promise.race([runner.promise, leftBehind]).finally(() => {
      this.stop.signal.removeEventListener('abort', stop);
      lost.removeEventListener('abort', onLost);
    });
  }

  /** @param onLost called when an answer of the server is lost */
  private openPool(onLost: (cause: Error) => void): Pool {
    const direct = directOptions(this.config, 'jobs', ANSWER_TIMEOUT_MS);
    const pool = new Pool({
      ...direct,
      Client: class extends FailFastClient {
        protected override answerIsLost(cause: Error): void {
          onLost(cause);
        }
      },
      options: `${direct.options} -c enable_sort=off`, // as in `OutboxSession`: jobs are taken from the beginning of an index
      max: CONNECTIONS,
    });
    pool.on('error', () => undefined); // reported to whoever needs a connection next
    pool.on('connect', () => undefined); // Graphile Worker asks for a listener, for what `FailFastClient` does itself
    return pool;
  }

  private async maintain(): Promise<void> {
    let hasFailed = false;
    while (!this.stop.signal.aborted) {
      await this.pause(MAINTENANCE_MS * (0.5 + Math.random()));
      if (this.stop.signal.aborted) return;
      try {
        await this.recover();
        hasFailed = false;
      } catch (error) {
        if (!hasFailed) this.logger.warn({ err: error }, 'Jobs of dead runners cannot be freed at the moment');
        hasFailed = true;
      }
      await this.measure().catch(() => this.oldestAge.remove()); // a stale value would look current
    }
  }

  /**
   * Frees the jobs of dead runners, and queues that are locked although none of their jobs runs: a job that was run by
   * two runners at once, because one of them counted as dead, leaves its queue locked. By itself, Graphile Worker would
   * do that after four hours.
   */
  private async recover(): Promise<void> {
    await this.database.run(async (manager) => {
      await manager.query(
        `SELECT graphile_worker.force_unlock_workers(array_agg(runner))
         FROM (SELECT DISTINCT locked_by AS runner FROM graphile_worker._private_jobs
               WHERE locked_at < now() - interval '5 seconds') AS busy
         WHERE NOT EXISTS (
           SELECT FROM pg_locks
           WHERE locktype = 'advisory' AND granted AND classid = $1 AND objsubid = 2
             AND objid::bigint = hashtext(runner)::bigint & 4294967295
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
         HAVING count(*) > 0`,
        [LOCK_CLASS],
      );
      await manager.query(
        `UPDATE graphile_worker._private_job_queues AS queue SET locked_by = NULL, locked_at = NULL
         WHERE locked_at < now() - interval '5 seconds' AND NOT EXISTS (
           SELECT FROM graphile_worker._private_jobs WHERE job_queue_id = queue.id AND locked_at IS NOT NULL)`,
      );
    });
  }

  /** Without the jobs that are run one at a time: those are expected to wait. */
  private async measure(): Promise<void> {
    const rows = await this.database.run((manager) =>
      manager.query<{ age: number }[]>(
        `SELECT greatest(extract(epoch FROM now() - run_at), 0)::float AS age FROM graphile_worker._private_jobs
         WHERE is_available AND job_queue_id IS NULL ORDER BY priority, run_at LIMIT 1`,
      ),
    );
    this.oldestAge.set(rows[0]?.age ?? 0);
  }

  private log(level: string, message: string, isFailedJob: boolean): void {
    if (isFailedJob) return; // logged where it failed, with its context
    if (level === 'error') this.logger.error(message);
    else if (level === 'warning') this.logger.warn(message);
    else this.logger.debug(message);
  }
}

/** `Database` throws ServiceErrors, a direct connection PostgreSQL's own errors, an outbound client its failures. */
function saysUnavailable(error: unknown): boolean {
  // What was sent and failed may always fail, so it waits longer each time.
  if (error instanceof OutboundFailure) return !error.wasSent;
  return ServiceError.isUnavailable(error) || isUnavailable(error);
}

/**
 * When Graphile Worker ends, its local queue returns fetched jobs that have not begun to the database. If it has no
 * other background work at that moment, it throws right after it has sent the statement: a failure of the statement is
 * then an unhandled rejection, and ends the process. So this gives the queue background work until it is released.
 */
function keepLocalQueueBusy(events: WorkerEvents): void {
  events.on('localQueue:init', ({ localQueue }) => {
    const { promise: released, resolve } = Promise.withResolvers<void>();
    events.on('localQueue:setMode', ({ newMode }) => {
      if (newMode === 'RELEASED') resolve();
    });
    (localQueue as unknown as { background(work: Promise<void>): void }).background(released);
  });
}
