import type { MigrationInterface, QueryRunner } from 'typeorm';
import { onlyForward } from '../migration-steps';

/** Events that consumers have processed, payments, and the outcome of orders. */
export class CarryOrdersThrough1764000000000 implements MigrationInterface {
  readonly name = 'CarryOrdersThrough1764000000000';
  readonly down = onlyForward;

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE inbox (
        consumer    text NOT NULL,
        event_id    text NOT NULL,                -- ce_id: the same on every redelivery
        consumed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, event_id)
      );

      ALTER TABLE orders
        ADD COLUMN payment_id     text,
        ADD COLUMN payment_status text,
        ADD COLUMN reason         text,           -- why it was rejected or cancelled
        -- NOT VALID: the column is new and empty, and the check would scan a table of millions under a lock.
        ADD CONSTRAINT orders_payment_status CHECK (payment_status IN ('AUTHORIZED', 'DECLINED', 'VOIDED')) NOT VALID;

      CREATE TABLE payments (
        order_id   uuid PRIMARY KEY REFERENCES orders (id) ON DELETE CASCADE,
        asked_at   timestamptz,                   -- from then on the payment API may hold a payment
        attempts   integer NOT NULL DEFAULT 0,    -- runs that ended without an answer
        created_at timestamptz NOT NULL DEFAULT now()
      );
    `);
  }
}
