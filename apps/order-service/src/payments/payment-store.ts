import { Injectable } from '@nestjs/common';
import type { Transaction } from '@platform/database';
import { jobInsertAll, jobValues, type NewJob } from '@platform/jobs';
import { MalformedEvent } from '@platform/messaging';
import { type Effect, toOrderUuid } from '../orders/order-lifecycle.service';

/** What is stored about an order's payment apart from the order. */
export interface DuePayment {
  readonly wasAsked: boolean;
  /** Runs that ended without an answer. */
  readonly attempts: number;
  /** Time since the payment became due, in milliseconds. */
  readonly ageMs: number;
}

const AGE_MS = '(extract(epoch FROM now() - payments.created_at) * 1000)::float';

/**
 * For `OrderLifecycleService.findWith`: reads a {@link DuePayment} in one snapshot with its order. So if `wasAsked` is
 * true, the order names the customer that the payment API was asked with: that customer cannot be erased until it has
 * answered.
 */
export const DUE_PAYMENT = {
  table: 'payments',
  columns: `asked_at IS NOT NULL AS "wasAsked", attempts, ${AGE_MS} AS "ageMs"`,
};

/**
 * For `OrderLifecycleService.whilePending`, before the payment API is asked: from then on it may hold a payment. The
 * mark is never removed, not even if nothing was sent: another run may have sent something meanwhile. Returns a
 * {@link DuePayment}, unless the payment is older than `giveUpMs`: then it must not be asked for.
 */
export const markAsked = (giveUpMs: number): Effect => ({
  name: 'mark-asked',
  statement: `UPDATE payments SET asked_at = coalesce(asked_at, now()) FROM pending
              WHERE order_id = pending.id AND ${AGE_MS} < ${giveUpMs}
              RETURNING pending.id, true AS "wasAsked", attempts, ${AGE_MS} AS "ageMs"`,
});

function toUuid(orderId: string): string {
  try {
    return toOrderUuid(orderId);
  } catch {
    throw new MalformedEvent('The subject is not an order id');
  }
}

/** The only access to the table `payments` besides erasure and retention. */
@Injectable()
export class PaymentStore {
  /**
   * Adds those payments that do not exist yet, and enqueues the jobs.
   * @throws {MalformedEvent} if one of them is not an order id
   * @throws {Error} with SQLSTATE 23503 when an order does not exist
   */
  async add(tx: Transaction, orderIds: readonly string[], task: string, jobs: readonly NewJob[]): Promise<void> {
    await tx.query(
      // Sorted, so that two processes that add the same payments do not deadlock.
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
