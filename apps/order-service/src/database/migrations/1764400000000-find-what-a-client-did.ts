import type { MigrationInterface, QueryRunner } from 'typeorm';
import { buildIndex, onlyForward } from '../migration-steps';

/** Index for the audit trail of one client: without it PostgreSQL reads the whole trail for one that did little. */
export class FindWhatAClientDid1764400000000 implements MigrationInterface {
  readonly name = 'FindWhatAClientDid1764400000000';
  readonly transaction = false;
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    // Half of the events have no client: there the service acted on its own.
    const on = 'audit_events (tenant_id, client_id, id) WHERE client_id IS NOT NULL';
    await buildIndex(runner, 'audit_events_by_client', on);
  }
}
