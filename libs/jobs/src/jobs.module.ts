import { Module } from '@nestjs/common';
import { makeCounterProvider } from '@willsoto/nestjs-prometheus';
import { JobQueue } from './job-queue';
import { JobRunner } from './job-runner';

const runs = makeCounterProvider({ name: 'jobs_total', help: 'Runs of jobs', labelNames: ['task', 'outcome'] });

@Module({ providers: [JobQueue, JobRunner, runs], exports: [JobQueue, JobRunner] })
export class JobsModule {}
