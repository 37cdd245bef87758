import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Index for the audit trail of one order, by tenant: others who know the order's id are refused it, again and again
 * perhaps, and their refusals are events of the same object.
 */
export class FindWhatATenantDidToAnOrder1764700000000 implements MigrationInterface {
  readonly name = 'FindWhatATenantDidToAnOrder1764700000000';
  /** CREATE INDEX CONCURRENTLY does not block writes, and cannot run in a transaction. */
  readonly transaction = false;

  async up(runner: QueryRunner): Promise<void> {
    // An interrupted run leaves an invalid index behind.
    await runner.query('DROP INDEX CONCURRENTLY IF EXISTS audit_events_by_tenant_and_object');
    await runner.query(`CREATE INDEX CONCURRENTLY audit_events_by_tenant_and_object
                        ON audit_events (tenant_id, object, id) WHERE object IS NOT NULL`);
    await runner.query('DROP INDEX CONCURRENTLY IF EXISTS audit_events_by_object');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(
      'CREATE INDEX CONCURRENTLY audit_events_by_object ON audit_events (object, id) WHERE object IS NOT NULL',
    );
    await runner.query('DROP INDEX CONCURRENTLY audit_events_by_tenant_and_object');
  }
}
