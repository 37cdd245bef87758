import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Where the audit trail of one client is read: without it PostgreSQL reads the whole trail for a client that did little. */
export class FindWhatAClientDid1764400000000 implements MigrationInterface {
  readonly name = 'FindWhatAClientDid1764400000000';
  /** An index that is made concurrently lets others write meanwhile. */
  readonly transaction = false;

  async up(runner: QueryRunner): Promise<void> {
    // One that was not made to its end is left behind, and no use.
    await runner.query('DROP INDEX CONCURRENTLY IF EXISTS audit_events_by_client');
    // Half of the events are what the service did by itself, and nobody's.
    await runner.query(`CREATE INDEX CONCURRENTLY audit_events_by_client ON audit_events (tenant_id, client_id, id)
                        WHERE client_id IS NOT NULL`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX CONCURRENTLY audit_events_by_client');
  }
}
