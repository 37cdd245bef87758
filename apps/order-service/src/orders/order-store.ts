import { Injectable } from '@nestjs/common';
import { AUDIT_EVENTS, type AuditRow } from '@platform/audit';
import { Batcher, Database, isLocked, RowArrays, type Transaction } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { IdempotencyStore, type KeyedRequest, keyDigest } from '@platform/idempotency';
import { OUTBOX, type OutboxRow } from '@platform/messaging';
import type { Slice } from '@platform/paging';
import { currentContext } from '@platform/request-context';
import type { Order } from './order.entity';
import { ORDER_COLUMNS, SHOWN_COLUMNS, type ShownOrder } from './order-columns';
import { hasItems, type ListedOrder, listStatement, type OrderFilter, pageOf } from './order-list';

/** The values that all new orders share: literals in the text of `INSERT_ALL`, not parameters. */
export const NEW_ORDER = {
  order: { status: 'PENDING', version: 1, eventSequence: 1 },
  event: { type: 'order.created', aggregateType: 'order' },
  audit: { action: 'order.create', outcome: 'succeeded', statusCode: 201 },
  route: 'POST /v1/orders',
} as const;

/** A new order with its event, its audit row and the answer to remember for its idempotency key: all or nothing. */
export interface NewOrder extends KeyedRequest {
  /** Made with {@link NEW_ORDER}, like `event`, `audit` and the scope's route. */
  readonly order: Order;
  readonly event: Pick<OutboxRow, 'id' | 'aggregateid' | 'payload' | 'traceparent'>;
  readonly audit: Pick<AuditRow, 'id' | 'occurred_at' | 'request_id' | 'address' | 'certificate'>;
}

interface Wanted {
  readonly tenantId: string;
  readonly uuid: string;
}

/** The changed order, to be written only if the stored one still has the version that was read. */
interface Change {
  readonly order: Order;
  readonly readVersion: number;
  readonly event: OutboxRow | undefined;
  readonly audit: AuditRow;
}

/** What another feature does to its own tables for orders that are pending. */
export interface Effect {
  readonly name: string;
  /**
   * SQL without parameters. It finds the UUIDs of the orders in `pending.id`, and returns the `id` of each for which it
   * did something, with what the feature wants to know of it.
   */
  readonly statement: string;
}

/** A row that another feature keeps about an order, in a table of its own with a column `order_id`. */
export interface Companion {
  readonly table: string;
  /** SQL: a select list. */
  readonly columns: string;
}

/** In seconds. */
export interface PendingAges {
  readonly withCompanion: number;
  readonly alone: number;
}

const NEW_ORDER_ROWS = new RowArrays({
  tenant_id: 'text',
  client_id: 'text',
  key: 'bytea',
  fingerprint: 'bytea',
  answer: 'text',
  id: 'uuid',
  customer_id: 'text',
  currency: 'text',
  total_value: 'numeric',
  items: 'jsonb',
  metadata: 'jsonb',
  created_at: 'timestamptz',
  event_id: 'uuid',
  order_id: 'text',
  event: 'json',
  traceparent: 'text',
  audit_id: 'uuid',
  occurred_at: 'timestamptz',
  request_id: 'text',
  address: 'text',
  certificate: 'text',
});

/**
 * One statement, so one transaction and one round trip, for all orders that arrive together. The unique key decides
 * which request was first, also within a batch: each answer names its own order, so the remembered answer shows which
 * one won. Keys are inserted in sorted order, so that two batches with the same keys wait for each other but never
 * deadlock.
 */
const INSERT_ALL = `
  WITH input AS (
    ${NEW_ORDER_ROWS.select()}
  ), remembered AS (
    INSERT INTO idempotency_keys (tenant_id, client_id, route, key, fingerprint, response_body)
    SELECT tenant_id, client_id, '${NEW_ORDER.route}', key, fingerprint, answer FROM input
    ORDER BY key, tenant_id, client_id
    ON CONFLICT DO NOTHING
    RETURNING response_body
  ), fresh AS (
    SELECT * FROM input WHERE answer IN (SELECT response_body FROM remembered)
  ), kept AS (
    INSERT INTO orders (id, tenant_id, client_id, customer_id, status, currency, total_value, items, metadata, version,
                        event_sequence, created_at, updated_at)
    SELECT id, tenant_id, client_id, customer_id, '${NEW_ORDER.order.status}', currency, total_value, items, metadata,
           ${NEW_ORDER.order.version}, ${NEW_ORDER.order.eventSequence}, created_at, created_at
    FROM fresh
  ), events AS (
    ${OUTBOX.insertSelect({
      id: 'event_id',
      aggregatetype: `'${NEW_ORDER.event.aggregateType}'`,
      aggregateid: 'order_id',
      type: `'${NEW_ORDER.event.type}'`,
      payload: 'event',
      sequence: `${NEW_ORDER.order.eventSequence}`,
      traceparent: 'traceparent',
      request_id: 'request_id',
    })} FROM fresh
  ), audited AS (
    ${AUDIT_EVENTS.insertSelect({
      id: 'audit_id',
      occurred_at: 'occurred_at',
      tenant_id: 'tenant_id',
      client_id: 'client_id',
      action: `'${NEW_ORDER.audit.action}'`,
      object: 'order_id',
      outcome: `'${NEW_ORDER.audit.outcome}'`,
      status_code: `${NEW_ORDER.audit.statusCode}`,
      error_code: 'NULL',
      request_id: 'request_id',
      address: 'address',
      certificate: 'certificate',
    })} FROM fresh
  )
  SELECT id FROM fresh`;

/**
 * The order with the id `wanted.id`, to be joined `LATERAL`. The LIMIT enforces one lookup by primary key for each
 * order. Without it, a plan made while the table was small would go on scanning the table after it has grown.
 */
const orderById = (columns: string, lock = '') =>
  `(SELECT ${columns} FROM orders WHERE orders.id = wanted.id LIMIT 1 ${lock}) AS found`;

/** What a statement does with orders that other transactions have locked: by default it waits for them. */
type Locking = '' | 'SKIP LOCKED';

/**
 * Runs a batch of writes. If one of its orders stays locked for longer than `lock_timeout`, for example by an erasure,
 * the batch runs again without the locked orders, so that only the callers of those get 503.
 * @param write returns a result for each order; false or undefined where nothing was written
 */
async function retrySkippingLocked<Result>(
  write: (locking: Locking) => Promise<Result[]>,
): Promise<(Result | ServiceError)[]> {
  try {
    return await write('');
  } catch (error) {
    if (!isLocked(error)) throw error;
    // An order for which nothing was written is locked or has changed. It is unknown which, so its caller has to retry.
    const results = await write('SKIP LOCKED').catch((again: unknown) => {
      // The table itself is locked, so no order can be written.
      throw isLocked(again) ? ServiceError.unavailable(new Error('The table is locked', { cause: again })) : again;
    });
    return results.map((result) => result || ServiceError.unavailable(error));
  }
}

/**
 * Hides the length of an array from the planner. Otherwise a custom plan for a short array would seem so much cheaper
 * than the generic one that each execution would be planned anew, which takes longer than reading an order.
 */
const array = (parameter: string) => `(SELECT ${parameter})`;

/** Orders requested together, by one or several tenants. An id finds only an order of the tenant that comes with it. */
const ordersOfTenants = (columns: string) => `
  SELECT found.* FROM unnest(${array('$1::uuid[]')}, ${array('$2::text[]')}) AS wanted (id, tenant_id)
  CROSS JOIN LATERAL ${orderById(`${columns}, tenant_id`)}
  WHERE found.tenant_id = wanted.tenant_id`;
const FIND_FOR_ANY_TENANT = `SELECT ${ORDER_COLUMNS} FROM orders WHERE id = $1`;

/**
 * The oldest pending order of each tenant: ids are in the order of creation. There is no list of tenants, so each is
 * looked up in the index as the next after the one before. The status is a range so that only an index that contains
 * the status can serve: with another index, a plan would walk through all of a tenant's orders (as in `order-list.ts`).
 */
const oldestPending = (companion: string) => `
  WITH RECURSIVE tenants AS (
    (SELECT tenant_id FROM orders ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT next.tenant_id FROM tenants CROSS JOIN LATERAL (
      SELECT tenant_id FROM orders WHERE tenant_id > tenants.tenant_id ORDER BY tenant_id LIMIT 1
    ) AS next
  )
  SELECT greatest(max(age) FILTER (WHERE order_id IS NOT NULL), 0)::float AS "withCompanion",
         greatest(max(age) FILTER (WHERE order_id IS NULL), 0)::float AS alone
  FROM tenants CROSS JOIN LATERAL (
    SELECT id, extract(epoch FROM now() - created_at) AS age FROM orders
    WHERE tenant_id = tenants.tenant_id AND status BETWEEN 'PENDING' AND 'PENDING'
    ORDER BY status, id NULLS FIRST LIMIT 1
  ) AS oldest
  LEFT JOIN LATERAL (SELECT order_id FROM ${companion} WHERE order_id = oldest.id LIMIT 1) AS companion ON true`;

/** The condition is that of the index `orders_to_void`. */
const OLDEST_TO_VOID = `
  SELECT coalesce(greatest(extract(epoch FROM now() - min(updated_at)), 0), 0)::float AS age FROM orders
  WHERE payment_status = 'AUTHORIZED' AND status IN ('CANCELLED', 'REJECTED')`;

const CHANGE_ROWS = new RowArrays({
  id: 'uuid',
  tenant_id: 'text',
  read_version: 'integer',
  version: 'integer',
  event_sequence: 'integer',
  updated_at: 'timestamptz',
  status: 'text',
  payment_id: 'text',
  payment_status: 'text',
  reason: 'text',
  event_id: 'uuid',
  audit_id: 'uuid',
});

/**
 * Changes each order only if it still has the version that was read. Orders are locked in the order of their ids, so
 * that two batches with the same orders wait for each other but never deadlock. Parameters: the changes, their outbox
 * rows, and their audit rows.
 */
const updateAll = (locking: Locking) => `
  WITH wanted AS (
    ${CHANGE_ROWS.select()} ORDER BY id
  ), locked AS (
    SELECT wanted.* FROM wanted CROSS JOIN LATERAL ${orderById('tenant_id, version', `FOR NO KEY UPDATE ${locking}`)}
    WHERE found.tenant_id = wanted.tenant_id AND found.version = read_version
  ), changed AS (
    UPDATE orders
    SET version = locked.version, event_sequence = locked.event_sequence, updated_at = locked.updated_at,
        status = locked.status, payment_id = locked.payment_id, payment_status = locked.payment_status,
        reason = locked.reason
    FROM locked WHERE orders.id = locked.id
    RETURNING event_id, audit_id
  ), events AS (
    ${OUTBOX.insertAll(1 + CHANGE_ROWS.width)} WHERE id IN (SELECT event_id FROM changed)
  ), audited AS (
    ${AUDIT_EVENTS.insertAll(1 + CHANGE_ROWS.width + OUTBOX.width)} WHERE id IN (SELECT audit_id FROM changed)
  )
  SELECT audit_id FROM changed`;

const UPDATE_ALL = { '': updateAll(''), 'SKIP LOCKED': updateAll('SKIP LOCKED') };

/**
 * The only access to the table `orders` besides erasure, retention, and features that look for orders whose events they
 * missed (docs/extending.md). Every read for a client takes the tenant.
 */
@Injectable()
export class OrderStore {
  private readonly inserts = new Batcher(
    (orders: readonly NewOrder[]) => this.insertAll(orders),
    ({ order }) => order.items.length,
  );
  private readonly finds = this.batchedReads<Order>('find-orders', ORDER_COLUMNS);
  private readonly shows = this.batchedReads<ShownOrder>('show-orders', SHOWN_COLUMNS);
  private readonly updates = new Batcher<Change, boolean>((changes) =>
    retrySkippingLocked((locking) => this.updateAll(changes, locking)),
  );
  /** By statement name; `callersSql` is as in {@link inBatch}. */
  private readonly batchers = new Map<string, { callersSql: string; batcher: Batcher<string, Order | undefined> }>();

  constructor(
    private readonly database: Database,
    private readonly idempotency: IdempotencyStore,
  ) {}

  /**
   * Stores the order, unless its idempotency key was used before.
   * @returns the first answer to the key, or undefined when this order was stored
   * @throws {ServiceError} IDEMPOTENCY_KEY_REUSED when the key came with another request; SERVICE_UNAVAILABLE when too
   *   many orders wait already
   */
  insert(newOrder: NewOrder): Promise<string | undefined> {
    return this.idempotency.unlessTaken(newOrder, () => this.inserts.add(newOrder));
  }

  /** @returns for each order whether it was stored, because its key was free */
  private async insertAll(orders: readonly NewOrder[]): Promise<boolean[]> {
    const rows = orders.map(({ order, event, audit, scope, key, fingerprint, answer }) => ({
      tenant_id: scope.tenantId,
      client_id: scope.clientId,
      key: keyDigest(key),
      fingerprint,
      answer,
      id: order.id,
      customer_id: order.customerId,
      currency: order.currency,
      total_value: order.totalValue,
      items: JSON.stringify(order.items),
      metadata: order.metadata && JSON.stringify(order.metadata),
      created_at: order.createdAt,
      event_id: event.id,
      order_id: event.aggregateid,
      event: event.payload,
      traceparent: event.traceparent,
      audit_id: audit.id,
      occurred_at: audit.occurred_at,
      request_id: audit.request_id,
      address: audit.address,
      certificate: audit.certificate,
    }));
    const values = NEW_ORDER_ROWS.parameters(rows);
    const fresh = await this.database.prepared<{ id: string }>('insert-orders', INSERT_ALL, values);
    const kept = new Set(fresh.map(({ id }) => id));
    return orders.map(({ order }) => kept.has(order.id));
  }

  find(tenantId: string, uuid: string): Promise<Order | undefined> {
    return this.finds.add({ tenantId, uuid });
  }

  /** As {@link find}, with a lock until `tx` ends: others can read it, and lock it so too, but not change it. */
  async findAndLock(tx: Transaction, tenantId: string, uuid: string): Promise<Order | undefined> {
    const text = `SELECT ${ORDER_COLUMNS} FROM orders WHERE tenant_id = $1 AND id = $2 FOR SHARE`;
    const [order] = await tx.query<Order[]>(text, [tenantId, uuid]);
    return order;
  }

  /** As {@link find}, in the form for clients. */
  show(tenantId: string, uuid: string): Promise<ShownOrder | undefined> {
    return this.shows.add({ tenantId, uuid });
  }

  private batchedReads<Row extends { readonly id: string }>(
    name: string,
    columns: string,
  ): Batcher<Wanted, Row | undefined> {
    const text = ordersOfTenants(columns);
    return new Batcher<Wanted, Row | undefined>(async (wanted) => {
      const values = [wanted.map(({ uuid }) => uuid), wanted.map(({ tenantId }) => tenantId)];
      const found = await this.database.prepared<Row & { tenant_id: string }>(name, text, values);
      const orders = new Map(found.map((order) => [order.id, order]));
      return wanted.map(({ tenantId, uuid }) => {
        const order = orders.get(uuid);
        return order?.tenant_id === tenantId ? order : undefined; // never another tenant's
      });
    });
  }

  /** For the service's own work on orders of any tenant; never for an id that a client gave. */
  async findForAnyTenant(uuid: string): Promise<Order | undefined> {
    const [order] = await this.database.prepared<Order>('find-for-any-tenant', FIND_FOR_ANY_TENANT, [uuid]);
    return order;
  }

  /** As {@link findForAnyTenant}, with the lock of {@link findAndLock}. */
  async findAndLockForAnyTenant(tx: Transaction, uuid: string): Promise<Order | undefined> {
    const [order] = await tx.query<Order[]>(`${FIND_FOR_ANY_TENANT} FOR SHARE`, [uuid]);
    return order;
  }

  /**
   * The order and its companion, both from one snapshot. For the service's own work, as {@link findForAnyTenant}.
   * @returns undefined when there is no order, or it has no companion
   */
  findWith<Row extends object>(uuid: string, { table, columns }: Companion): Promise<(Order & Row) | undefined> {
    return this.inBatch<Order & Row>(
      uuid,
      `find-orders-with-${table}`,
      columns,
      () => `SELECT found.*, companion.* FROM unnest(${array('$1::uuid[]')}) AS wanted (id)
       CROSS JOIN LATERAL ${orderById(ORDER_COLUMNS)}
       CROSS JOIN LATERAL (SELECT ${columns} FROM ${table} WHERE order_id = wanted.id LIMIT 1) AS companion`,
    );
  }

  /**
   * Runs another feature's statement while the order is locked as `PENDING`. For the service's own work, as
   * {@link findForAnyTenant}.
   * @returns the order with what the statement returned for it; undefined when it is not pending, or the statement
   *   returned nothing
   */
  whilePending<Row extends object>(uuid: string, { name, statement }: Effect): Promise<(Order & Row) | undefined> {
    // The LIMIT removes nothing. It makes PostgreSQL expect few orders, so that the effect finds its rows by key too.
    return this.inBatch<Order & Row>(
      uuid,
      `${name}-of-pending-orders`,
      statement,
      (locking) => `WITH pending AS (
         SELECT found.* FROM (SELECT unnest($1::uuid[]) AS id ORDER BY id LIMIT cardinality($1)) AS wanted
         CROSS JOIN LATERAL ${orderById(ORDER_COLUMNS, `FOR NO KEY UPDATE ${locking}`)}
         WHERE found.status = 'PENDING'
       ), done AS (
         ${statement}
       )
       SELECT * FROM pending JOIN done USING (id)`,
    );
  }

  /**
   * Of the oldest pending order of each tenant, the greatest age in seconds: of those that have a companion, and of those
   * that have none. 0 where there is no such order.
   */
  async oldestPending({ table }: Companion): Promise<PendingAges> {
    const [ages] = await this.database.run((manager) => manager.query<PendingAges[]>(oldestPending(table)));
    return ages ?? { withCompanion: 0, alone: 0 };
  }

  async oldestToVoid(): Promise<number> {
    const [row] = await this.database.run((manager) => manager.query<{ age: number }[]>(OLDEST_TO_VOID));
    return row?.age ?? 0;
  }

  /**
   * Runs one statement for all orders that are requested together. It belongs to no client, so the tenant wall does not
   * check it; therefore it is refused in the context of a client.
   * @param callersSql the caller's part of the SQL: under one name it must always be the same
   */
  private inBatch<Row extends Order>(
    uuid: string,
    name: string,
    callersSql: string,
    text: (locking: Locking) => string,
  ): Promise<Row | undefined> {
    if (currentContext()?.principal) throw new Error('A statement for any tenant was refused');
    const known = this.batchers.get(name);
    if (known && known.callersSql !== callersSql) throw new Error(`Two statements are named ${name}`);
    const batcher =
      known?.batcher ??
      new Batcher<string, Order | undefined>((uuids) =>
        retrySkippingLocked(async (locking) => {
          const found = await this.database.prepared<Row>(locking ? `${name}-unlocked` : name, text(locking), [uuids]);
          const orders = new Map(found.map((order) => [order.id, order]));
          return uuids.map((uuid) => orders.get(uuid));
        }),
      );
    if (!known) this.batchers.set(name, { callersSql, batcher });
    return batcher.add(uuid) as Promise<Row | undefined>;
  }

  /**
   * Writes a changed order with its audit row and its event, if it has one.
   * @param readVersion the order's version when the change was decided
   * @returns false when the order has another version by now: nothing was written
   * @throws {ServiceError} SERVICE_UNAVAILABLE when the order stays locked
   */
  update(order: Order, readVersion: number, event: OutboxRow | undefined, audit: AuditRow): Promise<boolean> {
    return this.updates.add({ order, readVersion, event, audit });
  }

  private async updateAll(changes: readonly Change[], locking: Locking): Promise<boolean[]> {
    const rows = changes.map(({ order, readVersion, event, audit }) => ({
      id: order.id,
      tenant_id: order.tenantId,
      read_version: readVersion,
      version: order.version,
      event_sequence: order.eventSequence,
      updated_at: order.updatedAt,
      status: order.status,
      payment_id: order.paymentId,
      payment_status: order.paymentStatus,
      reason: order.reason,
      event_id: event?.id ?? null,
      audit_id: audit.id,
    }));
    const name = locking ? 'update-orders-unlocked' : 'update-orders';
    const written = await this.database.prepared<{ audit_id: string }>(name, UPDATE_ALL[locking], [
      ...CHANGE_ROWS.parameters(rows),
      ...OUTBOX.parameters(changes.flatMap(({ event }) => event ?? [])),
      ...AUDIT_EVENTS.parameters(changes.map(({ audit }) => audit)),
    ]);
    const changed = new Set(written.map(({ audit_id }) => audit_id));
    return changes.map(({ audit }) => changed.has(audit.id));
  }

  /**
   * A page, newest first. It has fewer orders than the limit where they are large, or are deleted while it is read.
   * @param limit 1 to 200
   */
  async list(tenantId: string, filter: OrderFilter, limit: number): Promise<Slice<ShownOrder>> {
    const { name, text, values } = listStatement(tenantId, filter, limit);
    const { items, nextBeforeId } = pageOf(await this.database.prepared<ListedOrder>(name, text, values), limit);
    if (items.every(hasItems)) return { items, nextBeforeId };
    // Large orders are read one by one, so that only those on the page are read whole.
    const shown = await Promise.all(
      items.map(async (order) => (hasItems(order) ? order : await this.withItems(tenantId, order))),
    );
    return { items: shown.filter((order) => order !== undefined), nextBeforeId };
  }

  /** @returns undefined when the order is gone by now */
  private async withItems(tenantId: string, order: ListedOrder): Promise<ShownOrder | undefined> {
    const whole = await this.show(tenantId, order.id);
    return whole && { ...order, items: whole.items, metadata: whole.metadata };
  }
}
