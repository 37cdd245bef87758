export { jobInsertAll, JobQueue, jobValues, type NewJob } from './job-queue';
export { JobRunner, type JobSignals } from './job-runner';
export { JobQueueModule, JobsModule } from './jobs.module';
export { migrateJobs } from './migrate-jobs';
