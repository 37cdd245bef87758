import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Injectable, Module } from '@nestjs/common';
import { Database, type Transaction } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { jobInsertAll, JobQueue, JobRunner, JobsModule, jobValues } from '@platform/jobs';
import { currentContext, newContext, runInContext } from '@platform/request-context';
import { OutboundFailure } from '@platform/resilience';
import { api, metric } from '../support/client';
import { startService, type TestService } from '../support/service';
import { until } from '../support/until';

interface Note {
  readonly name: string;
}

@Injectable()
class Notes {
  /** With which each run of a job ends, in this order. */
  readonly ends = new Map<string, (Error | undefined)[]>();
  readonly runs: { readonly payload: Note; readonly requestId: string | undefined }[] = [];

  mostSlowAtOnce = 0;
  private slow = 0;

  constructor(jobs: JobRunner, database: Database) {
    const run = async (payload: Note) => {
      this.runs.push({ payload, requestId: currentContext()?.requestId });
      const error = this.ends.get(payload.name)?.shift();
      if (error) throw error;
    };
    jobs.handle('note', run);
    jobs.handle<Note>('slow-note', async (payload) => {
      this.slow += 1;
      this.mostSlowAtOnce = Math.max(this.mostSlowAtOnce, this.slow);
      await delay(50);
      this.slow -= 1;
      await run(payload);
    });
    jobs.handle<Note>('late-note', async ({ name }) => {
      this.runs.push({ payload: { name }, requestId: undefined });
      await delay(1_000);
      const insert = "INSERT INTO inbox (consumer, event_id) VALUES ('late-note', $1)";
      await database.run((manager) => manager.query(insert, [name]));
    });
  }
}

@Module({ imports: [JobsModule], providers: [Notes] })
class NotesModule {}

const startWithNotes = () => startService({}, { beside: { imports: [NotesModule] } });

describe('A job whose handler throws', () => {
  let service: TestService;
  let notes: Notes;

  beforeAll(async () => {
    service = await startWithNotes();
    notes = service.app.get(Notes, { strict: false });
  });
  afterAll(() => service.stop());

  /** @returns its name */
  async function enqueue(...ends: (Error | undefined)[]): Promise<string> {
    const name = randomUUID();
    notes.ends.set(name, ends);
    const queue = service.app.get(JobQueue, { strict: false });
    await runInContext(newContext({ requestId: `req-${name}` }), () =>
      service.app.get(Database).inTransaction((tx) => queue.enqueue(tx, 'note', { name })),
    );
    return name;
  }

  const runsOf = (name: string) => notes.runs.filter(({ payload }) => payload.name === name);

  /** How long the job waits for its next run, in milliseconds. */
  async function pauseAfter(run: number, name: string): Promise<number> {
    const jobs = await until(`the end of run ${run}`, async () => {
      if (runsOf(name).length !== run) return;
      const waiting = await service.database.query<{ pause: number }>(
        `SELECT extract(epoch FROM run_at - created_at)::float * 1000 AS pause
         FROM graphile_worker._private_jobs WHERE locked_at IS NULL AND payload ->> 'name' = $1`,
        [name],
      );
      return waiting.length === 1 && waiting;
    });
    return jobs[0]?.pause ?? NaN;
  }

  const runNow = (name: string) =>
    service.database.query(`UPDATE graphile_worker._private_jobs SET run_at = now() WHERE payload ->> 'name' = $1`, [
      name,
    ]);

  async function outcomes(): Promise<string[]> {
    const { text } = await api(service.url)('/metrics');
    return text.split('\n').filter((line) => line.startsWith('jobs_total{task="note"'));
  }

  it('is run again with the same payload after a pause that grows, until it does not', async () => {
    const name = await enqueue(new Error('first'), new Error('second'), undefined);
    const pauses: number[] = [];
    for (const run of [1, 2]) {
      pauses.push(await pauseAfter(run, name));
      await runNow(name);
    }
    await until('the third run', () => runsOf(name).length === 3);
    expect(pauses[0]).toBeGreaterThanOrEqual(500);
    expect(pauses[0]).toBeLessThan(1_000); // the pause varies below that
    expect(pauses[1]).toBeGreaterThanOrEqual(1_000);
    expect(pauses[1]).toBeLessThan(2_000);
    const run = { payload: { name }, requestId: `req-${name}` };
    expect(runsOf(name)).toEqual([run, run, run]);
    await until('an empty queue', async () => {
      return (await service.database.query('SELECT FROM graphile_worker._private_jobs')).length === 0;
    });
    expect(await outcomes()).toEqual([
      'jobs_total{task="note",outcome="failed"} 2',
      'jobs_total{task="note",outcome="completed"} 1',
    ]);
  });

  it('is not held back for longer each time when it is a dependency that is away', async () => {
    const away = () => ServiceError.unavailable(new Error('away'));
    const unreached = Object.assign(new Error('over a connection of its own'), { code: '08001' });
    const notSent = new OutboundFailure('carrier', 'circuit_open', { wasSent: false });
    const sent = new OutboundFailure('carrier', 'network', { wasSent: true, code: 'ECONNRESET' });
    const name = await enqueue(away(), unreached, notSent, away(), sent, undefined);
    for (const run of [1, 2, 3, 4]) {
      const pause = await pauseAfter(run, name);
      expect(pause).toBeGreaterThanOrEqual(2_500);
      expect(pause).toBeLessThan(5_000);
      await runNow(name);
    }
    expect(await pauseAfter(5, name)).toBeLessThanOrEqual(1_000);
    await runNow(name);
    await until('the last run', () => runsOf(name).length === 6);
  });

  it('waits for 300 s at most, however often it has failed', async () => {
    const name = randomUUID();
    notes.ends.set(name, [new Error('again')]);
    const payload = JSON.stringify({ name, failures: 20 });
    await service.database.query("SELECT graphile_worker.add_job('note', $1::json)", [payload]);
    const pause = await pauseAfter(1, name);
    expect(pause).toBeGreaterThanOrEqual(150_000);
    expect(pause).toBeLessThan(300_000);
  });

  it('is run however often it was run before, enqueued alone or with many', async () => {
    const names = [randomUUID(), randomUUID()] as const;
    const queue = service.app.get(JobQueue, { strict: false });
    await service.app.get(Database).inTransaction(async (tx) => {
      await queue.enqueue(tx, 'note', { name: names[0] });
      await tx.query(jobInsertAll(1), jobValues('note', [{ payload: { name: names[1] }, context: undefined }]));
      const worn = "UPDATE graphile_worker._private_jobs SET attempts = 1000 WHERE payload ->> 'name' = ANY($1)";
      await tx.query(worn, [names]);
    });
    await until('both runs', () => names.every((name) => runsOf(name).length === 1));
  });

  it('is taken from a runner that is gone, though not at once, and has not waited while it was run', async () => {
    /**
     * @param since when a runner has had it, or null if none has, and
     * @param due when it is due, both as intervals from now by the database's clock
     * @param queue where its jobs are run one at a time
     */
    const add = async (task: string, since: string | null, due: string, queue?: string) => {
      const name = randomUUID();
      await service.database.query('BEGIN');
      const sql = `SELECT graphile_worker.add_job($1, $2::json, $4, now() + $3::interval)`;
      await service.database.query(sql, [task, JSON.stringify({ name }), due, queue]);
      await service.database.query(
        `UPDATE graphile_worker._private_jobs SET locked_at = now() + $2::text::interval, locked_by = $3
         WHERE payload ->> 'name' = $1 AND $2::text IS NOT NULL`,
        [name, since, `runner-${name}`],
      );
      await service.database.query('COMMIT');
      return name;
    };
    // Its runner has taken it just now, whenever it is looked at.
    const taken = await add('note', '1 minute', '-1 hour');
    const inTurn = await add('nobody-runs-this', null, '-1 hour', 'a queue'); // it is expected to wait, and not counted
    const waiting = await add('nobody-runs-this', null, '-1 minute');
    const left = await add('note', '-10 seconds', '-1 hour');
    await until('the run of the job that was left', () => runsOf(left).length === 1);
    const age = await until('the age of the oldest job that waits', async () => {
      const seconds = await metric(service.url, 'jobs_oldest_age_seconds');
      return seconds >= 60 && seconds < 3_000 && seconds;
    });
    expect(age).toBeGreaterThanOrEqual(60);
    expect(runsOf(taken)).toEqual([]);
    const sql = `DELETE FROM graphile_worker._private_jobs WHERE payload ->> 'name' = ANY($1)`;
    await service.database.query(sql, [[taken, inTurn, waiting]]);
  });
});

describe('Jobs run at once', () => {
  it.each([
    ['worker', 100],
    ['api,worker', 20],
  ])('in a process with ROLES=%s: %i', async (roles, most) => {
    const service = await startService({ ROLES: roles }, { beside: { imports: [NotesModule] } });
    const notes = service.app.get(Notes, { strict: false });
    const queue = service.app.get(JobQueue, { strict: false });
    await service.app.get(Database).inTransaction(async (tx) => {
      for (let i = 0; i < 3 * most; i += 1) await queue.enqueue(tx, 'slow-note', { name: `slow-${i}` });
    });
    await until('all runs', () => notes.runs.length === 3 * most);
    expect(notes.mostSlowAtOnce).toBe(most);
    await service.stop();
  });
});

describe('Jobs of which one runs at a time', () => {
  it('leave the places to others, also when they are run again', async () => {
    const service = await startWithNotes();
    const notes = service.app.get(Notes, { strict: false });
    const queue = service.app.get(JobQueue, { strict: false });
    const names = Array.from({ length: 4 }, (_, i) => `slow-${i}`);
    notes.ends.set('slow-0', [new Error('first')]);
    await service.app.get(Database).inTransaction((tx) => queue.enqueue(tx, 'note', { name: 'first of all' }));
    await until('the runner', () => notes.runs.pop()); // as it starts it makes the tasks known, and locks them
    await service.app.get(Database).inTransaction(async (tx) => {
      for (const name of names) await queue.enqueue(tx, 'slow-note', { name }, { oneAtATime: true });
      await queue.enqueue(tx, 'note', { name: 'other' });
    });
    await until('all runs', () => notes.runs.length === names.length + 2);
    const order = notes.runs.map(({ payload }) => payload.name);
    expect(order.indexOf('other')).toBeLessThan(2);
    expect(new Set(order)).toEqual(new Set(['other', ...names]));
    expect(notes.mostSlowAtOnce).toBe(1);
    await service.stop();
  });

  it('are run on after two runners had the same one', async () => {
    const service = await startWithNotes();
    const { runs } = service.app.get(Notes, { strict: false });
    const queue = service.app.get(JobQueue, { strict: false });
    const run = async (name: string) => {
      const job = (tx: Transaction) => queue.enqueue(tx, 'note', { name }, { oneAtATime: true });
      await service.app.get(Database).inTransaction(job);
      await until(`the run of ${name}`, () => runs.some(({ payload }) => payload.name === name));
    };
    await run('first');
    // The first of the two deletes the job, and then the second finds none whose queue it could free.
    const lock = `UPDATE graphile_worker._private_job_queues SET locked_by = 'second', locked_at = now() - interval '1 minute'
                  WHERE is_available RETURNING id`;
    await until('the queue to be left', async () => (await service.database.query(lock)).length > 0);
    await run('next');
    await service.stop();
  });
});

describe('A job that is under way when the process ends', () => {
  it('is finished before the database is closed', async () => {
    const service = await startWithNotes();
    const name = randomUUID();
    const queue = service.app.get(JobQueue, { strict: false });
    const { runs } = service.app.get(Notes, { strict: false });
    await service.app.get(Database).inTransaction((tx) => queue.enqueue(tx, 'late-note', { name }));
    await until('the run', () => runs.length === 1);
    await service.app.close();
    expect(await service.database.query('SELECT event_id FROM inbox')).toEqual([{ event_id: name }]);
  });
});
