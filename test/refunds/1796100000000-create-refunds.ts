import type { MigrationInterface, QueryRunner } from 'typeorm';
import { onlyForward } from '../../apps/order-service/src/database/migration-steps';

export class CreateRefunds1796100000000 implements MigrationInterface {
  readonly name = 'CreateRefunds1796100000000';
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE refunds (
        id uuid PRIMARY KEY,
        tenant_id text NOT NULL,
        order_id uuid NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
        amount numeric NOT NULL,
        reason text,
        paid_at timestamptz
      )`);
    await runner.query('CREATE INDEX refunds_by_order ON refunds (order_id)');
  }
}
