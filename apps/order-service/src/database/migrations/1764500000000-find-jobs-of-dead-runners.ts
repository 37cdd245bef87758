import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Where workers look for jobs whose runner is dead, every few seconds: without it they read all jobs that wait, which after
 * a day without the payment API takes longer than a statement may. The table is Graphile Worker's and stands by now.
 */
export class FindJobsOfDeadRunners1764500000000 implements MigrationInterface {
  readonly name = 'FindJobsOfDeadRunners1764500000000';
  /** An index that is made concurrently lets others write meanwhile. */
  readonly transaction = false;

  async up(runner: QueryRunner): Promise<void> {
    // One that was not made to its end is left behind, and no use.
    await runner.query('DROP INDEX CONCURRENTLY IF EXISTS graphile_worker.jobs_under_way');
    await runner.query(`CREATE INDEX CONCURRENTLY jobs_under_way ON graphile_worker._private_jobs (locked_by)
                        WHERE locked_at IS NOT NULL`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX CONCURRENTLY graphile_worker.jobs_under_way');
  }
}
