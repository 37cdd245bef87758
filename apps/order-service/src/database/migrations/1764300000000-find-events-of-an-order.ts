import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Where an erasure looks: without it PostgreSQL reads all of the outbox, while the customer's orders are locked. */
export class FindEventsOfAnOrder1764300000000 implements MigrationInterface {
  readonly name = 'FindEventsOfAnOrder1764300000000';
  /** An index that is made concurrently lets others write meanwhile. */
  readonly transaction = false;

  async up(runner: QueryRunner): Promise<void> {
    // One that was not made to its end is left behind, and no use.
    await runner.query('DROP INDEX CONCURRENTLY IF EXISTS outbox_by_aggregate');
    await runner.query('CREATE INDEX CONCURRENTLY outbox_by_aggregate ON outbox (aggregateid)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX CONCURRENTLY outbox_by_aggregate');
  }
}
