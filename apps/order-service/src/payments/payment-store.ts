import { Injectable } from '@nestjs/common';
import type { Transaction } from '@platform/database';
import { jobInsertAll, jobValues, type NewJob } from '@platform/jobs';
import { MalformedEvent } from '@platform/messaging';
import { toOrderUuid } from '../orders/order-lifecycle.service';

/** A payment that is being carried on. */
export interface DuePayment {
  readonly wasAsked: boolean;
  /** Runs that ended without an answer. */
  readonly attempts: number;
  readonly ageMs: number;
}

/**
 * What `OrderLifecycleService.findWith` reads as a {@link DuePayment}, at one moment with the order: where a payment is known
 * to have been asked for, its customer is the one it was asked with, whom nobody can erase before there is an answer.
 */
export const DUE_PAYMENT = {
  table: 'payments',
  columns: `asked_at IS NOT NULL AS "wasAsked", attempts,
            (extract(epoch FROM now() - payments.created_at) * 1000)::float AS "ageMs"`,
};

/**
 * For `OrderLifecycleService.whilePending`, before the payment API is asked: from here on it may hold a payment. Never
 * taken back, not even when nothing was sent: another run may have sent something meanwhile.
 */
export const MARK_ASKED = {
  name: 'mark-asked',
  statement: 'UPDATE payments SET asked_at = now() FROM pending WHERE order_id = pending.id',
};

function toUuid(orderId: string): string {
  try {
    return toOrderUuid(orderId);
  } catch {
    throw new MalformedEvent('The subject is no order id');
  }
}

/** The table `payments`; only erasure and retention reach it too. */
@Injectable()
export class PaymentStore {
  /**
   * Adds payments, unless they are there, and has them carried on by jobs.
   * @throws {MalformedEvent | Error} the latter with SQLSTATE 23503: no such order
   */
  async add(tx: Transaction, orderIds: readonly string[], task: string, jobs: readonly NewJob[]): Promise<void> {
    await tx.query(
      // In one order: two processes that add the same ones would else lock each other out.
      `WITH added AS (
         INSERT INTO payments (order_id) SELECT unnest($1::uuid[]) ORDER BY 1 ON CONFLICT DO NOTHING
       ) ${jobInsertAll(2)}`,
      [orderIds.map(toUuid), ...jobValues(task, jobs)],
    );
  }

  async countAttempt(tx: Transaction, orderId: string): Promise<void> {
    await tx.query('UPDATE payments SET attempts = attempts + 1 WHERE order_id = $1', [toUuid(orderId)]);
  }
}
