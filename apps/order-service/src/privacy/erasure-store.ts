import { Inject, Injectable } from '@nestjs/common';
import { type AuditRow, auditInsert, auditValues } from '@platform/audit';
import { CONFIG, type Config } from '@platform/config';
import { Database, type DirectConnection, directConnection, isUnavailable } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { JobQueue } from '@platform/jobs';
import { outboxRow } from '@platform/messaging';
import { currentContext, runInContext } from '@platform/request-context';
import { fromUUID } from 'typeid-js';

/** The outbox is read through once: longer than a request's statements may take, and rare. */
const STATEMENT_TIMEOUT_MS = 30_000;

export const ERASE_DEAD_LETTERS = 'erase-dead-letters';

/** The job that follows an erasure. */
export interface EraseDeadLetters {
  readonly tenantId: string;
  readonly pseudonym: string;
}

interface Erasure extends EraseDeadLetters {
  readonly customerId: string;
  readonly erasedAt: Date;
  readonly audit: AuditRow;
}

/** An order of the customer is being paid, and the payment API must hear the same customer until it has answered. */
export class PaymentUnderWay extends Error {
  override readonly name = 'PaymentUnderWay';
}

/**
 * Puts a pseudonym in the place of a customer wherever the service keeps one. The one place beside the stores that
 * writes orders and outbox rows of its own accord: all or nothing must be erased, and shown.
 */
@Injectable()
export class ErasureStore {
  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly database: Database,
    private readonly jobs: JobQueue,
  ) {}

  /**
   * @returns how many orders were the customer's
   * @throws {PaymentUnderWay} nothing was erased
   */
  async erase(erasure: Erasure): Promise<number> {
    const context = currentContext();
    if (!context) throw new Error('An erasure is asked for by a request');
    // A connection of its own, without the short time limits of the pool. Such connections are not for clients, so the
    // work continues as the service's: that each statement keeps to the tenant is for this file alone to see to.
    return runInContext({ ...context, principal: undefined }, async () => {
      const client = directConnection(this.config, 'order-service erasure', STATEMENT_TIMEOUT_MS);
      client.on('error', () => undefined); // the statement under way hears of it
      try {
        await client.connect();
        await client.query('BEGIN');
        const orders = await this.eraseIn(client, erasure);
        await client.query('COMMIT');
        return orders;
      } catch (error) {
        throw isUnavailable(error) ? ServiceError.unavailable(error) : error;
      } finally {
        await client.end().catch(() => undefined); // what was not committed is undone
      }
    });
  }

  /** Ids of the orders that were the customer's. */
  async ordersOf({ tenantId, pseudonym }: EraseDeadLetters): Promise<Set<string>> {
    const rows = await this.database.run((manager) =>
      manager.query<{ id: string }[]>('SELECT id FROM orders WHERE tenant_id = $1 AND customer_id = $2', [
        tenantId,
        pseudonym,
      ]),
    );
    return new Set(rows.map(({ id }) => fromUUID(id, 'ord')));
  }

  private async eraseIn(client: DirectConnection, erasure: Erasure): Promise<number> {
    const { tenantId, customerId, pseudonym, erasedAt, audit } = erasure;
    const { rows } = await client.query<{ id: string }>(
      `UPDATE orders SET customer_id = $3, metadata = NULL, reason = NULL, version = version + 1, updated_at = $4
       WHERE tenant_id = $1 AND customer_id = $2 RETURNING id`,
      [tenantId, customerId, pseudonym, erasedAt],
    );
    const uuids = rows.map(({ id }) => id);
    // Its order is locked now, so nobody begins to be paid behind this.
    const { rowCount } = await client.query(
      `SELECT FROM payments JOIN orders ON orders.id = order_id
       WHERE order_id = ANY($1::uuid[]) AND asked_at IS NOT NULL AND payment_status IS NULL LIMIT 1`,
      [uuids],
    );
    if (rowCount) throw new PaymentUnderWay('An order of the customer is being paid');

    await client.query(
      `UPDATE outbox
       SET payload = (jsonb_set(payload::jsonb, '{customerId}', to_jsonb($2::text)) - 'metadata' - 'reason')::json
       WHERE aggregateid = ANY($1)`,
      [uuids.map((uuid) => fromUUID(uuid, 'ord')), pseudonym],
    );
    const { rows: counted } = await client.query<{ times: number }>(
      `INSERT INTO erasures (tenant_id, pseudonym, times) VALUES ($1, $2, 1)
       ON CONFLICT (tenant_id, pseudonym) DO UPDATE SET times = erasures.times + 1 RETURNING times`,
      [tenantId, pseudonym],
    );
    const event = outboxRow({
      type: 'customer.erased',
      // Of the same kind as orders, so that it goes where their events go, with change data capture too.
      aggregateType: 'order',
      aggregateId: pseudonym,
      sequence: counted[0]?.times ?? 1,
      data: { customerId: pseudonym, ordersErased: uuids.length, erasedAt: erasedAt.toISOString() },
    });
    await client.query(
      `INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, sequence, traceparent, request_id)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
      [
        ...[event.id, event.aggregatetype, event.aggregateid, event.type, event.payload, event.sequence],
        ...[event.traceparent, event.request_id],
      ],
    );
    await client.query(auditInsert(1), auditValues(audit));
    await this.jobs.enqueue(client, ERASE_DEAD_LETTERS, { tenantId, pseudonym } satisfies EraseDeadLetters);
    return uuids.length;
  }
}
