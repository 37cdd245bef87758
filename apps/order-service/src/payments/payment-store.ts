import { Injectable } from '@nestjs/common';
import { jobInsert, jobValues } from '@platform/jobs';
import { MalformedEvent } from '@platform/messaging';
import { fromString, toUUID } from 'typeid-js';
import type { EntityManager } from 'typeorm';

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
 * SQL for `OrderLifecycleService.whilePending`, before the payment API is asked: from here on it may hold a payment. Never
 * taken back, not even when nothing was sent: another run may have sent something meanwhile.
 */
export const MARK_ASKED = 'UPDATE payments SET asked_at = now() FROM pending WHERE order_id = pending.id';

function toUuid(orderId: string): string {
  try {
    return toUUID(fromString(orderId, 'ord'));
  } catch {
    throw new MalformedEvent('The subject is no order id');
  }
}

/** The only place that knows the table `payments`. */
@Injectable()
export class PaymentStore {
  /**
   * Adds the payment, unless it is there, and has it carried on by a job.
   * @throws {MalformedEvent | Error} the latter with SQLSTATE 23503: no such order
   */
  async add(tx: EntityManager, orderId: string, task: string, job: object): Promise<void> {
    await tx.query(
      `WITH added AS (INSERT INTO payments (order_id) VALUES ($1) ON CONFLICT DO NOTHING) SELECT ${jobInsert(2)}`,
      [toUuid(orderId), ...jobValues(task, job)],
    );
  }

  async countAttempt(tx: EntityManager, orderId: string): Promise<void> {
    await tx.query('UPDATE payments SET attempts = attempts + 1 WHERE order_id = $1', [toUuid(orderId)]);
  }
}
