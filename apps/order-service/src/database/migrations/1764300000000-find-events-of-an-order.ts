import type { MigrationInterface, QueryRunner } from 'typeorm';
import { buildIndex, onlyForward } from '../migration-steps';

/** Index for erasures: without it PostgreSQL reads the whole outbox while the customer's orders are locked. */
export class FindEventsOfAnOrder1764300000000 implements MigrationInterface {
  readonly name = 'FindEventsOfAnOrder1764300000000';
  readonly transaction = false;
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    await buildIndex(runner, 'outbox_by_aggregate', 'outbox (aggregateid)');
  }
}
