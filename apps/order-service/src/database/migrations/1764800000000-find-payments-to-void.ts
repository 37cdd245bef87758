import type { MigrationInterface, QueryRunner } from 'typeorm';
import { buildIndex, onlyForward } from '../migration-steps';

/** Index of the orders that have ended and whose payment is not voided yet: at most times there are none. */
export class FindPaymentsToVoid1764800000000 implements MigrationInterface {
  readonly name = 'FindPaymentsToVoid1764800000000';
  readonly transaction = false;
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    const due = "payment_status = 'AUTHORIZED' AND status IN ('CANCELLED', 'REJECTED')";
    await buildIndex(runner, 'orders_to_void', `orders (updated_at) WHERE ${due}`);
  }
}
