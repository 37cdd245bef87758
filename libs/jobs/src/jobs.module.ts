import { Module } from '@nestjs/common';
import { makeCounterProvider, makeGaugeProvider } from '@willsoto/nestjs-prometheus';
import { JobQueue } from './job-queue';
import { JobRunner } from './job-runner';

const runs = makeCounterProvider({ name: 'jobs_total', help: 'Runs of jobs', labelNames: ['task', 'outcome'] });

const oldestAge = makeGaugeProvider({
  name: 'jobs_oldest_age_seconds',
  help: 'For how long the oldest job that is due has waited',
});

@Module({ providers: [JobQueue, JobRunner, runs, oldestAge], exports: [JobQueue, JobRunner] })
export class JobsModule {}
