import type { MigrationInterface, QueryRunner } from 'typeorm';
import { buildIndex, dropIndex, onlyForward } from '../migration-steps';

/**
 * Index for the audit trail of one order, by tenant: others who know the order's id are refused it, again and again
 * perhaps, and their refusals are events of the same object.
 */
export class FindWhatATenantDidToAnOrder1764700000000 implements MigrationInterface {
  readonly name = 'FindWhatATenantDidToAnOrder1764700000000';
  readonly transaction = false;
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    const on = 'audit_events (tenant_id, object, id) WHERE object IS NOT NULL';
    await buildIndex(runner, 'audit_events_by_tenant_and_object', on);
    await dropIndex(runner, 'audit_events_by_object');
  }
}
