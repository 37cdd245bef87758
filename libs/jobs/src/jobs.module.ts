import { Module } from '@nestjs/common';
import { JobQueue } from './job-queue';
import { JobRunner } from './job-runner';

@Module({ providers: [JobQueue, JobRunner], exports: [JobQueue, JobRunner] })
export class JobsModule {}
