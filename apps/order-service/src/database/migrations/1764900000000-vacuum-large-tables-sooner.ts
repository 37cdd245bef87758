import type { MigrationInterface, QueryRunner } from 'typeorm';
import { onlyForward } from '../migration-steps';

/**
 * Retention and lists read past the index entries of rows that are gone, until vacuum removes them. By default that is
 * when a fifth of the table is dead: in a large table that is too much to read past within a statement's time limit.
 */
export class VacuumLargeTablesSooner1764900000000 implements MigrationInterface {
  readonly name = 'VacuumLargeTablesSooner1764900000000';
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    for (const table of ['orders', 'idempotency_keys', 'inbox', 'audit_events']) {
      await runner.query(
        `ALTER TABLE ${table} SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)`,
      );
    }
  }
}
