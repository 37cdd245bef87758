import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Index for workers, which look for jobs of dead runners every few seconds: without it they read all waiting jobs,
 * which after a day without the payment API takes longer than the statement timeout. The table is Graphile Worker's,
 * whose migrations run before these.
 */
export class FindJobsOfDeadRunners1764500000000 implements MigrationInterface {
  readonly name = 'FindJobsOfDeadRunners1764500000000';
  /** CREATE INDEX CONCURRENTLY does not block writes, and cannot run in a transaction. */
  readonly transaction = false;

  async up(runner: QueryRunner): Promise<void> {
    // An interrupted run leaves an invalid index behind.
    await runner.query('DROP INDEX CONCURRENTLY IF EXISTS graphile_worker.jobs_under_way');
    await runner.query(`CREATE INDEX CONCURRENTLY jobs_under_way ON graphile_worker._private_jobs (locked_by)
                        WHERE locked_at IS NOT NULL`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX CONCURRENTLY graphile_worker.jobs_under_way');
  }
}
