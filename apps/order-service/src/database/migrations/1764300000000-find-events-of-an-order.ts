import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Index for erasures: without it PostgreSQL reads the whole outbox while the customer's orders are locked. */
export class FindEventsOfAnOrder1764300000000 implements MigrationInterface {
  readonly name = 'FindEventsOfAnOrder1764300000000';
  /** CREATE INDEX CONCURRENTLY does not block writes, and cannot run in a transaction. */
  readonly transaction = false;

  async up(runner: QueryRunner): Promise<void> {
    // An interrupted run leaves an invalid index behind.
    await runner.query('DROP INDEX CONCURRENTLY IF EXISTS outbox_by_aggregate');
    await runner.query('CREATE INDEX CONCURRENTLY outbox_by_aggregate ON outbox (aggregateid)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX CONCURRENTLY outbox_by_aggregate');
  }
}
