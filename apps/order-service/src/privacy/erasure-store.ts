import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import { AUDIT_EVENTS, type AuditRow, auditRow } from '@platform/audit';
import { CONFIG, type Config } from '@platform/config';
import { type DirectConnection, isRetryable, isUnavailable, withDirectConnection } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { JobQueue } from '@platform/jobs';
import { OUTBOX, outboxRow } from '@platform/messaging';
import { currentContext, runInContext } from '@platform/request-context';
import { toOrderId } from '../orders/order-lifecycle.service';

/** An erasure changes many rows: it may take longer than a request's statements, and is rare. */
const STATEMENT_TIMEOUT_MS = 20_000;
const ANSWER_TIMEOUT_MS = 25_000;
/** Concurrent erasures in one process; each has a connection of its own. */
const MAX_CONCURRENT = 2;
/** Erasures that wait for their turn; more are refused. */
const MAX_WAITING = 8;
const MAX_TURN_MS = 10_000;
const POLL_MS = 20;
const ATTEMPTS = 5;
/**
 * Orders in one transaction: few enough that it takes less than a second, in which others wait for its locks, and that
 * the order ids fit into one event (about 165 KB, of 1 MiB that Kafka accepts by default).
 */
const MAX_ORDERS_AT_ONCE = 5_000;
/** After this the dead letters are erased again: older events may have been on their way to a failing consumer. */
const SECOND_PASS_MS = 24 * 3_600_000;

export const ERASE_DEAD_LETTERS = 'erase-dead-letters';

/** Payload of the job that erases a customer in the dead letters. */
export type EraseDeadLetters = {
  readonly tenantId: string;
  readonly pseudonym: string;
};

interface Erasure extends EraseDeadLetters {
  readonly customerId: string;
  readonly erasedAt: Date;
}

/** The payment API has not answered for an order of the customer, and must be asked again with the same customer. */
export class PaymentUnderWay extends Error {
  override readonly name = 'PaymentUnderWay';
  /** How many orders were erased before it was found. */
  ordersErased = 0;
}

/**
 * Replaces a customer by a pseudonym wherever the database holds one, and records that in the audit trail. Apart from
 * the stores and retention, nothing else writes orders and outbox rows itself.
 */
@Injectable()
export class ErasureStore {
  private running = 0;
  private waiting = 0;

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly jobs: JobQueue,
  ) {}

  /**
   * Erases a customer's orders in parts, each in a transaction of its own. After a failure, another call continues with
   * the parts that are left.
   * @returns how many orders were erased
   * @throws {PaymentUnderWay} nothing was erased of the part that contains the order
   * @throws {ServiceError} SERVICE_UNAVAILABLE when the database is unavailable, deadlocks persist, or other erasures
   *   take too long
   */
  async erase(erasure: Erasure): Promise<number> {
    const context = currentContext();
    if (!context) throw new Error('An erasure needs the context of a request');
    // The work uses a connection of its own, without the short time limits of the pool. Clients do not get one, so it
    // runs without the principal, and the tenant wall does not check it: each statement in this file must name the
    // tenant.
    return runInContext({ ...context, principal: undefined }, async () => {
      await this.takeTurn();
      try {
        const audit = () => runInContext(context, () => auditRowOf(erasure));
        return await withDirectConnection([this.config, 'erasure', ANSWER_TIMEOUT_MS], (client) =>
          this.erasePartByPart(client, erasure, audit),
        );
      } catch (error) {
        throw isUnavailable(error) || isRetryable(error) ? ServiceError.unavailable(error) : error;
      } finally {
        this.running -= 1;
      }
    });
  }

  /**
   * @throws {ServiceError} SERVICE_UNAVAILABLE when too many wait, or the wait takes too long: each waiting erasure
   *   occupies a place that other requests need
   */
  private async takeTurn(): Promise<void> {
    if (this.waiting >= MAX_WAITING) throw ServiceError.unavailable(new Error('Too many erasures wait already'));
    this.waiting += 1;
    const deadline = performance.now() + MAX_TURN_MS;
    while (this.running >= MAX_CONCURRENT && performance.now() < deadline) await delay(POLL_MS);
    this.waiting -= 1;
    if (this.running >= MAX_CONCURRENT) throw ServiceError.unavailable(new Error('Other erasures take long'));
    this.running += 1;
  }

  /** @param audit makes the audit row of a part, in the client's context */
  private async erasePartByPart(client: DirectConnection, erasure: Erasure, audit: () => AuditRow): Promise<number> {
    let orders = 0;
    let isFirst = true;
    try {
      // Before anything is locked or erased: it may take a while.
      await assertNoPaymentUnderWay(client, 'tenant_id = $1 AND customer_id = $2', [
        erasure.tenantId,
        erasure.customerId,
      ]);
      // Until a part is empty, not just smaller: some of its orders may have been deleted meanwhile.
      for (;;) {
        const erased = await this.erasePart(client, erasure, audit(), isFirst);
        if (erased === 0) return orders;
        orders += erased;
        isFirst = false;
      }
    } catch (error) {
      if (error instanceof PaymentUnderWay) error.ordersErased = orders;
      throw error;
    }
  }

  /** @param isFirst the first part is recorded and published even without orders: consumers may still know some */
  private async erasePart(
    client: DirectConnection,
    erasure: Erasure,
    audit: AuditRow,
    isFirst: boolean,
  ): Promise<number> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await client.query('BEGIN');
        // The server gives up before this process does, or when this process falls silent, so that it does not hold
        // locks on orders and events for which others wait.
        await client.query(`SET LOCAL statement_timeout = ${STATEMENT_TIMEOUT_MS}; SET LOCAL lock_timeout = '2s';
                            SET LOCAL idle_in_transaction_session_timeout = '5s'`);
        const sequence = await countErasure(client, erasure);
        const orderIds = await eraseOrders(client, erasure);
        const isRecorded = isFirst || orderIds.length > 0;
        if (isRecorded) {
          await this.publish(client, erasure, sequence, orderIds);
          await client.query(AUDIT_EVENTS.insert(), AUDIT_EVENTS.values(audit));
        }
        await client.query(isRecorded ? 'COMMIT' : 'ROLLBACK');
        return orderIds.length;
      } catch (error) {
        if (attempt === ATTEMPTS || !isRetryable(error)) throw error;
        await client.query('ROLLBACK');
      }
    }
  }

  private async publish(
    client: DirectConnection,
    { tenantId, pseudonym, erasedAt }: Erasure,
    sequence: number,
    orderIds: readonly string[],
  ): Promise<void> {
    const event = outboxRow({
      type: 'customer.erased',
      aggregateType: 'order',
      aggregateId: pseudonym,
      sequence,
      data: {
        customerId: pseudonym,
        orderIds,
        ordersErased: orderIds.length,
        erasedAt: erasedAt.toISOString(),
      },
    });
    await client.query(OUTBOX.insert(), OUTBOX.values(event));
    const job: EraseDeadLetters = { tenantId, pseudonym };
    for (const delayMs of [0, SECOND_PASS_MS]) {
      await this.jobs.enqueue(client, ERASE_DEAD_LETTERS, job, { delayMs, oneAtATime: true });
    }
  }
}

const auditRowOf = ({ pseudonym }: Erasure) => auditRow({ object: pseudonym, outcome: 'succeeded', statusCode: 200 });

/**
 * The first statement of a part: its row lock makes other erasures of the same customer wait until the part is
 * committed.
 * @returns the sequence of the part's event
 */
async function countErasure(client: DirectConnection, { tenantId, pseudonym }: Erasure): Promise<number> {
  const { rows } = await client.query<{ times: number }>(
    `INSERT INTO erasures (tenant_id, pseudonym, times) VALUES ($1, $2, 1)
     ON CONFLICT (tenant_id, pseudonym) DO UPDATE SET times = erasures.times + 1 RETURNING times`,
    [tenantId, pseudonym],
  );
  return rows[0]?.times ?? 1;
}

/** @returns the ids of at most {@link MAX_ORDERS_AT_ONCE} orders that were the customer's */
async function eraseOrders(client: DirectConnection, erasure: Erasure): Promise<string[]> {
  const { tenantId, customerId, pseudonym, erasedAt } = erasure;
  const { rows } = await client.query<{ id: string }>(
    `UPDATE orders SET customer_id = $3, metadata = NULL, reason = NULL, version = version + 1, updated_at = $4
     WHERE tenant_id = $1 AND customer_id = $2 AND id = ANY (ARRAY(
       SELECT id FROM orders WHERE tenant_id = $1 AND customer_id = $2 LIMIT ${MAX_ORDERS_AT_ONCE})) RETURNING id`,
    [tenantId, customerId, pseudonym, erasedAt],
  );
  // The orders are locked now, so no payment can begin after this check.
  await assertNoPaymentUnderWay(client, 'id = ANY($1::uuid[])', [rows.map(({ id }) => id)]);
  const orderIds = rows.map(({ id }) => toOrderId(id));

  // Locked in the order in which the relay locks, against deadlocks. The relay may mark rows as published during the
  // wait. PostgreSQL then checks the condition again on the new version of the row: a condition on the row alone still
  // holds, a join may not.
  await client.query(
    `WITH theirs AS (
       SELECT position FROM outbox WHERE aggregateid = ANY($1) ORDER BY position FOR UPDATE
     )
     UPDATE outbox
     SET payload = (jsonb_set(payload::jsonb, '{customerId}', to_jsonb($2::text)) - 'metadata' - 'reason')::json
     FROM theirs WHERE outbox.position = theirs.position`,
    [orderIds, pseudonym],
  );
  return orderIds;
}

/** @returns ids of the orders whose customer the pseudonym has replaced */
export async function ordersErased(
  client: DirectConnection,
  { tenantId, pseudonym }: EraseDeadLetters,
): Promise<Set<string>> {
  const { rows } = await client.query<{ id: string }>(
    'SELECT id FROM orders WHERE tenant_id = $1 AND customer_id = $2',
    [tenantId, pseudonym],
  );
  return new Set(rows.map(({ id }) => toOrderId(id)));
}

/** @throws {PaymentUnderWay} */
async function assertNoPaymentUnderWay(client: DirectConnection, which: string, values: unknown[]): Promise<void> {
  const { rowCount } = await client.query(
    `SELECT FROM orders JOIN payments ON order_id = orders.id
     WHERE ${which} AND asked_at IS NOT NULL AND payment_status IS NULL LIMIT 1`,
    values,
  );
  if (rowCount) throw new PaymentUnderWay('An order of the customer is being paid');
}
