import type { MigrationInterface, QueryRunner } from 'typeorm';
import { buildIndex, onlyForward } from '../migration-steps';

/**
 * Index for workers, which look for jobs of dead runners every few seconds: without it they read all waiting jobs,
 * which after a day without the payment API takes longer than the statement timeout. The table is Graphile Worker's,
 * whose migrations run before these.
 */
export class FindJobsOfDeadRunners1764500000000 implements MigrationInterface {
  readonly name = 'FindJobsOfDeadRunners1764500000000';
  readonly transaction = false;
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    const on = 'graphile_worker._private_jobs (locked_by) WHERE locked_at IS NOT NULL';
    await buildIndex(runner, 'graphile_worker.jobs_under_way', on);
  }
}
