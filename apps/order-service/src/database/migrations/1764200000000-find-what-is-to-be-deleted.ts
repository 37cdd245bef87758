import type { MigrationInterface, QueryRunner } from 'typeorm';
import { buildIndex, onlyForward } from '../migration-steps';

/** Indexes for retention. It needs none on outbox and orders, whose primary keys are in the order of time. */
export class FindWhatIsToBeDeleted1764200000000 implements MigrationInterface {
  readonly name = 'FindWhatIsToBeDeleted1764200000000';
  readonly transaction = false;
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    await buildIndex(runner, 'idempotency_keys_by_age', 'idempotency_keys (created_at)');
    await buildIndex(runner, 'inbox_by_age', 'inbox (consumed_at)');
  }
}
