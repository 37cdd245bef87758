import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Index for the audit trail of one client: without it PostgreSQL reads the whole trail for one that did little. */
export class FindWhatAClientDid1764400000000 implements MigrationInterface {
  readonly name = 'FindWhatAClientDid1764400000000';
  /** CREATE INDEX CONCURRENTLY does not block writes, and cannot run in a transaction. */
  readonly transaction = false;

  async up(runner: QueryRunner): Promise<void> {
    // An interrupted run leaves an invalid index behind.
    await runner.query('DROP INDEX CONCURRENTLY IF EXISTS audit_events_by_client');
    // Half of the events have no client: there the service acted on its own.
    await runner.query(`CREATE INDEX CONCURRENTLY audit_events_by_client ON audit_events (tenant_id, client_id, id)
                        WHERE client_id IS NOT NULL`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX CONCURRENTLY audit_events_by_client');
  }
}
