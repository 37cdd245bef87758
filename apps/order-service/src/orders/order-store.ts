import { Injectable } from '@nestjs/common';
import { auditInsert, auditInsertAll, auditJson, type AuditRow, auditValues } from '@platform/audit';
import { Database, Batcher } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { type IdempotencyScope, IdempotencyStore, keyDigest } from '@platform/idempotency';
import { outboxInsert, outboxInsertAll, type OutboxRow, outboxValues } from '@platform/messaging';
import { type Slice, toTimestamp } from '@platform/paging';
import type { Order } from './order.entity';
import { listStatement, ORDER_COLUMNS, type OrderFilter } from './order-list';

/** An order to be kept, what tells of it and shows it, and the answer to remember for its key: all or nothing. */
export interface NewOrder {
  readonly order: Order;
  readonly event: OutboxRow;
  readonly audit: AuditRow;
  readonly scope: IdempotencyScope;
  readonly key: string;
  readonly fingerprint: string;
  readonly answer: string;
}

interface Wanted {
  readonly tenantId: string;
  readonly uuid: string;
}

/** What is needed of an order while it is to be paid. */
export type PendingOrder = Pick<
  Order,
  'status' | 'customerId' | 'currency' | 'totalValue' | 'paymentId' | 'paymentStatus'
>;

/** A row that another feature keeps of an order, in a table of its own with a column `order_id`. */
export interface Companion {
  readonly table: string;
  /** SQL, as after `SELECT`. */
  readonly columns: string;
}

/**
 * One statement is one transaction and one round trip, for all orders that arrive together. The unique key judges who was
 * first, also among orders of one batch: an answer names its order, so it tells the one that was remembered. Keys are
 * taken in their order, so that two batches with the same ones wait for each other and never in a circle.
 */
const INSERT_ALL = `
  WITH input AS (
    SELECT * FROM json_to_recordset($1::json) AS row (
      tenant_id text, client_id text, route text, key bytea, fingerprint bytea, answer text, id uuid, order_id text,
      customer_id text, status text, currency text, total_value numeric, items jsonb, metadata jsonb, version integer,
      event_sequence integer, created_at timestamptz)
  ), remembered AS (
    INSERT INTO idempotency_keys (tenant_id, client_id, route, key, fingerprint, response_body)
    SELECT tenant_id, client_id, route, key, fingerprint, answer FROM input ORDER BY key
    ON CONFLICT DO NOTHING
    RETURNING response_body
  ), fresh AS (
    SELECT * FROM input WHERE answer IN (SELECT response_body FROM remembered)
  ), kept AS (
    INSERT INTO orders (id, tenant_id, client_id, customer_id, status, currency, total_value, items, metadata, version,
                        event_sequence, created_at, updated_at)
    SELECT id, tenant_id, client_id, customer_id, status, currency, total_value, items, metadata, version,
           event_sequence, created_at, created_at
    FROM fresh
  ), told AS (
    ${outboxInsertAll(2)} WHERE aggregateid IN (SELECT order_id FROM fresh)
  ), shown AS (
    ${auditInsertAll(3)} WHERE object IN (SELECT order_id FROM fresh)
  )
  SELECT id FROM fresh`;

/** Orders that are asked for together, by one or several tenants: each id only beside the tenant that asked for it. */
const FIND_ALL = `
  SELECT ${ORDER_COLUMNS} FROM orders
  JOIN unnest($1::uuid[], $2::text[]) AS wanted (id, tenant_id) USING (id, tenant_id)`;
const FIND_ANYONES = `SELECT ${ORDER_COLUMNS} FROM orders WHERE id = $1`;
const PENDING_COLUMNS = `status, customer_id AS "customerId", currency, total_value::text AS "totalValue",
  payment_id AS "paymentId", payment_status AS "paymentStatus"`;

/** Changes the version that was read, or nothing. */
const UPDATE = `
  WITH changed AS (
    UPDATE orders
    SET version = $2::integer, event_sequence = $3::integer, updated_at = $4::timestamptz, status = $5, payment_id = $6,
        payment_status = $7, reason = $8
    WHERE id = $1::uuid AND tenant_id = $9 AND version = $10::integer
    RETURNING 1
  ), told AS (
    ${outboxInsert(11)} FROM changed WHERE $11::uuid IS NOT NULL
  ), shown AS (
    ${auditInsert(19)} FROM changed
  )
  SELECT count(*)::integer AS changed FROM changed`;

const MOST_ROUNDS = 3;

/** The only place that reads and writes the table `orders`. The tenant is an argument of every read for a client. */
@Injectable()
export class OrderStore {
  private readonly inserts = new Batcher(
    (orders: readonly NewOrder[]) => this.insertAll(orders),
    ({ order }) => order.items.length,
  );
  private readonly finds = new Batcher((wanted: readonly Wanted[]) => this.findAll(wanted));

  constructor(
    private readonly database: Database,
    private readonly idempotency: IdempotencyStore,
  ) {}

  /**
   * Keeps the order, unless its key was used before.
   * @returns the answer that the key was given first, or undefined when this order was kept
   * @throws {ServiceError} IDEMPOTENCY_KEY_REUSED, or SERVICE_UNAVAILABLE when too many orders wait already
   */
  async insert(newOrder: NewOrder): Promise<string | undefined> {
    const { scope, key, fingerprint } = newOrder;
    // A key can vanish between the two statements, when its time is up. Then it is free, and the insert goes again.
    for (let round = 1; round <= MOST_ROUNDS; round += 1) {
      if (await this.inserts.add(newOrder)) return undefined;
      const answer = await this.idempotency.recall(scope, key, fingerprint);
      if (answer !== undefined) return answer;
    }
    throw ServiceError.unavailable(new Error('An idempotency key was taken and freed again and again'));
  }

  /** @returns for each order whether it was kept: its key was free */
  private async insertAll(orders: readonly NewOrder[]): Promise<boolean[]> {
    const input = orders.map(({ order, event, scope, key, fingerprint, answer }) => ({
      tenant_id: scope.tenantId,
      client_id: scope.clientId,
      route: scope.route,
      key: keyDigest(key),
      fingerprint: fingerprint,
      answer,
      id: order.id,
      order_id: event.aggregateid,
      customer_id: order.customerId,
      status: order.status,
      currency: order.currency,
      total_value: order.totalValue,
      items: order.items,
      metadata: order.metadata,
      version: order.version,
      event_sequence: order.eventSequence,
      created_at: toTimestamp(order.createdAt),
    }));
    const rows = await this.database.prepared<{ id: string }>('insert-orders', INSERT_ALL, [
      JSON.stringify(input),
      JSON.stringify(orders.map(({ event }) => event)),
      auditJson(orders.map(({ audit }) => audit)),
    ]);
    const kept = new Set(rows.map(({ id }) => id));
    return orders.map(({ order }) => kept.has(order.id));
  }

  find(tenantId: string, uuid: string): Promise<Order | undefined> {
    return this.finds.add({ tenantId, uuid });
  }

  private async findAll(wanted: readonly Wanted[]): Promise<(Order | undefined)[]> {
    const values = [wanted.map(({ uuid }) => uuid), wanted.map(({ tenantId }) => tenantId)];
    const found = await this.database.prepared<Order>('find-orders', FIND_ALL, values);
    const orders = new Map(found.map((order) => [order.id, order]));
    // Each has an object of its own, and never another tenant's order.
    return wanted.map(({ tenantId, uuid }) => {
      const order = orders.get(uuid);
      return order?.tenantId === tenantId ? { ...order } : undefined;
    });
  }

  /**
   * For the service's own work, whoever the order belongs to; never for an id that a client gave.
   */
  async findAnyones(uuid: string): Promise<Order | undefined> {
    const [order] = await this.database.prepared<Order>('find-anyones-order', FIND_ANYONES, [uuid]);
    return order;
  }

  /**
   * The order and its companion as they were at one moment. For the service's own work, as {@link findAnyones}.
   * @returns undefined when there is no order, or it has no companion
   */
  async findWith<Row extends object>(uuid: string, companion: Companion): Promise<(PendingOrder & Row) | undefined> {
    const { table, columns } = companion;
    const [found] = await this.database.prepared<PendingOrder & Row>(
      `find-order-with-${table}`,
      `SELECT ${PENDING_COLUMNS}, ${columns} FROM orders JOIN ${table} ON order_id = orders.id WHERE orders.id = $1`,
      [uuid],
    );
    return found;
  }

  /**
   * Runs a statement that finds the order's id in `pending.id`, if the order is pending; nobody else changes it meanwhile.
   * For the service's own work, as {@link findAnyones}.
   * @returns the order; undefined when it is not pending
   */
  async whilePending(uuid: string, statement: string): Promise<PendingOrder | undefined> {
    const [order] = await this.database.run((manager) =>
      manager.query<PendingOrder[]>(
        `WITH pending AS (
           SELECT id, ${PENDING_COLUMNS} FROM orders WHERE id = $1::uuid AND status = 'PENDING' FOR UPDATE
         ), done AS (
           ${statement}
         )
         SELECT * FROM pending`,
        [uuid],
      ),
    );
    return order;
  }

  /**
   * Writes what changes in the life of an order, and the event that tells of it, if any does.
   * @param readVersion which it had when the change was decided
   * @returns false when it has another one by now: nothing was written
   */
  async update(order: Order, readVersion: number, event: OutboxRow | undefined, audit: AuditRow): Promise<boolean> {
    const values = [
      ...[order.id, order.version, order.eventSequence, order.updatedAt],
      ...[order.status, order.paymentId, order.paymentStatus, order.reason, order.tenantId, readVersion],
      ...[...outboxValues(event), ...auditValues(audit)],
    ];
    const [row] = await this.database.run((manager) => manager.query<{ changed: number }[]>(UPDATE, values));
    return row?.changed === 1;
  }

  /**
   * Newest first, and fewer than the limit where the orders are large.
   * @param limit 1 to 200
   */
  async list(tenantId: string, filter: OrderFilter, limit: number): Promise<Slice<Order>> {
    const { name, text, values } = listStatement(tenantId, filter, limit);
    const items = await this.database.prepared<Order & { hasMore: boolean }>(name, text, values);
    return { items, hasMore: items.at(-1)?.hasMore ?? false };
  }
}
