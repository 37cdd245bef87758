import { Module } from '@nestjs/common';
import { makeCounterProvider, makeGaugeProvider } from '@willsoto/nestjs-prometheus';
import { JobQueue } from './job-queue';
import { JobRunner } from './job-runner';

const runs = makeCounterProvider({ name: 'jobs_total', help: 'Runs of jobs', labelNames: ['task', 'outcome'] });

const oldestAge = makeGaugeProvider({
  name: 'jobs_oldest_age_seconds',
  help: 'For how long the oldest job that is due has waited',
});

/** For code that enqueues jobs, such as routes. */
@Module({ providers: [JobQueue], exports: [JobQueue] })
export class JobQueueModule {}

/** For workers: lets the importing module register job handlers. */
@Module({ imports: [JobQueueModule], providers: [JobRunner, runs, oldestAge], exports: [JobQueueModule, JobRunner] })
export class JobsModule {}
