import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import { AUDIT_EVENTS, type AuditRow, auditRow } from '@platform/audit';
import { CONFIG, type Config } from '@platform/config';
import { type DirectConnection, directConnection, endConnection, isRetryable, isUnavailable } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { JobQueue } from '@platform/jobs';
import { OUTBOX, outboxRow } from '@platform/messaging';
import { currentContext, runInContext } from '@platform/request-context';
import { toOrderId } from '../orders/order-lifecycle.service';

/** An erasure changes many rows: it may take longer than a request's statements, and is rare. */
const STATEMENT_TIMEOUT_MS = 20_000;
const ANSWER_TIMEOUT_MS = 25_000;
/** At once, in one process: each has a connection of its own. */
const MAX_CONCURRENT = 2;
/** For their turn. More are refused. */
const MAX_WAITING = 8;
const MAX_TURN_MS = 10_000;
const LOOK_AGAIN_MS = 20;
const ATTEMPTS = 5;
/**
 * In one transaction: less than a second's work, so that others wait for a moment only, and the ids fit into one event
 * (about 330 KB, of 1 MiB that Kafka takes by default).
 */
const MAX_ORDERS_AT_ONCE = 10_000;
/** Events from before the erasure may still be on their way to a consumer that gives them up. */
const SECOND_LOOK_MS = 24 * 3_600_000;

export const ERASE_DEAD_LETTERS = 'erase-dead-letters';

/** The job that follows an erasure. */
export type EraseDeadLetters = {
  readonly tenantId: string;
  readonly pseudonym: string;
};

interface Erasure extends EraseDeadLetters {
  readonly customerId: string;
  readonly erasedAt: Date;
}

/** An order of the customer is being paid, and the payment API must hear the same customer until it has answered. */
export class PaymentUnderWay extends Error {
  override readonly name = 'PaymentUnderWay';
}

/**
 * Puts a pseudonym in the place of a customer wherever the service keeps one. The one place beside the stores that
 * writes orders and outbox rows of its own accord: what is erased of an order is all of it, and is shown.
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
   * Many orders are erased part by part, each in a transaction of its own. What fails later is gone on with when it is
   * called again.
   * @returns how many orders were the customer's
   * @throws {PaymentUnderWay} nothing was erased of the part in which it is
   */
  async erase(erasure: Erasure): Promise<number> {
    const context = currentContext();
    if (!context) throw new Error('An erasure is asked for by a request');
    // A connection of its own, without the short time limits of the pool. Such connections are not for clients, so the
    // work continues as the service's: that each statement keeps to the tenant is for this file alone to see to.
    return runInContext({ ...context, principal: undefined }, async () => {
      await this.takeTurn();
      try {
        return await this.erasePartByPart(erasure, () => runInContext(context, () => shown(erasure)));
      } catch (error) {
        throw isUnavailable(error) ? ServiceError.unavailable(error) : error;
      } finally {
        this.running -= 1;
      }
    });
  }

  /**
   * @throws {ServiceError} SERVICE_UNAVAILABLE when too many wait, or it takes too long: each keeps others' requests from
   * their place
   */
  private async takeTurn(): Promise<void> {
    if (this.waiting >= MAX_WAITING) throw ServiceError.unavailable(new Error('Too many erasures wait already'));
    this.waiting += 1;
    const deadline = performance.now() + MAX_TURN_MS;
    while (this.running >= MAX_CONCURRENT && performance.now() < deadline) await delay(LOOK_AGAIN_MS);
    this.waiting -= 1;
    if (this.running >= MAX_CONCURRENT) throw ServiceError.unavailable(new Error('Other erasures take long'));
    this.running += 1;
  }

  /** @param audit makes the row that shows a part, as the client's */
  private async erasePartByPart(erasure: Erasure, audit: () => AuditRow): Promise<number> {
    const client = await directConnection(this.config, 'erasure', ANSWER_TIMEOUT_MS);
    try {
      // Before anything is locked or erased: it may take a while.
      await assertNoPaymentUnderWay(client, 'tenant_id = $1 AND customer_id = $2', [
        erasure.tenantId,
        erasure.customerId,
      ]);
      let orders = await this.erasePart(client, erasure, audit(), true);
      for (let part = orders; part === MAX_ORDERS_AT_ONCE; orders += part) {
        part = await this.erasePart(client, erasure, audit(), false);
      }
      return orders;
    } finally {
      await endConnection(client); // what was not committed is undone
    }
  }

  /** @param isFirst it is told of then, also if there are no orders: consumers may know some */
  private async erasePart(
    client: DirectConnection,
    erasure: Erasure,
    audit: AuditRow,
    isFirst: boolean,
  ): Promise<number> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await client.query('BEGIN');
        // The server gives up before we do, and when it hears nothing of us, so that it does not hold on to orders and
        // events that others wait for.
        await client.query(`SET LOCAL statement_timeout = ${STATEMENT_TIMEOUT_MS}; SET LOCAL lock_timeout = '2s';
                            SET LOCAL idle_in_transaction_session_timeout = '5s'`);
        const sequence = await countErasure(client, erasure);
        const orderIds = await eraseOrders(client, erasure);
        const isToBeTold = isFirst || orderIds.length > 0;
        if (isToBeTold) {
          await this.tell(client, erasure, sequence, orderIds);
          await client.query(AUDIT_EVENTS.insert(), AUDIT_EVENTS.values(audit));
        }
        await client.query(isToBeTold ? 'COMMIT' : 'ROLLBACK');
        return orderIds.length;
      } catch (error) {
        if (attempt === ATTEMPTS || !isRetryable(error)) throw error;
        await client.query('ROLLBACK');
      }
    }
  }

  private async tell(
    client: DirectConnection,
    { tenantId, pseudonym, erasedAt }: Erasure,
    sequence: number,
    orderIds: readonly string[],
  ): Promise<void> {
    const told = outboxRow({
      type: 'customer.erased',
      // Of the same kind as orders, so that it goes where their events go, with change data capture too.
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
    await client.query(OUTBOX.insert(), OUTBOX.values(told));
    for (const delayMs of [0, SECOND_LOOK_MS]) {
      await this.jobs.enqueue(client, ERASE_DEAD_LETTERS, { tenantId, pseudonym } satisfies EraseDeadLetters, delayMs);
    }
  }
}

const shown = ({ pseudonym }: Erasure) => auditRow({ object: pseudonym, outcome: 'succeeded', statusCode: 200 });

/** Before all else, because it lets no other erasure of the same customer go on until this part of it is committed. */
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
  // The orders are locked now, so none begins behind this.
  await assertNoPaymentUnderWay(client, 'id = ANY($1::uuid[])', [rows.map(({ id }) => id)]);
  const orderIds = rows.map(({ id }) => toOrderId(id));

  // Locked in the order in which the relay locks. It may mark some meanwhile; a condition of its own row alone still finds
  // those then, which a join need not.
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

/** Ids of the orders that were the customer's. */
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
