import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Indexes for retention. It needs none on outbox and orders, whose primary keys are in the order of time. */
export class FindWhatIsToBeDeleted1764200000000 implements MigrationInterface {
  readonly name = 'FindWhatIsToBeDeleted1764200000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
      CREATE INDEX inbox_by_age ON inbox (consumed_at);
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX idempotency_keys_by_age, inbox_by_age');
  }
}
