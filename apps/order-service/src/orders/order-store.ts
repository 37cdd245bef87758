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

/** What every new order has in common: literals in the text of `INSERT_ALL`, not parameters. */
export const NEW = {
  order: { status: 'PENDING', version: 1, eventSequence: 1 },
  event: { type: 'order.created', aggregateType: 'order' },
  audit: { action: 'order.create', outcome: 'succeeded', statusCode: 201 },
  route: 'POST /v1/orders',
} as const;

/** An order to be kept, what tells of it and shows it, and the answer to remember for its key: all or nothing. */
export interface NewOrder extends KeyedRequest {
  /** Made with {@link NEW}, as event, audit and route are. */
  readonly order: Order;
  readonly event: Pick<OutboxRow, 'id' | 'aggregateid' | 'payload' | 'traceparent'>;
  readonly audit: Pick<AuditRow, 'id' | 'occurred_at' | 'request_id' | 'address' | 'certificate'>;
}

interface Wanted {
  readonly tenantId: string;
  readonly uuid: string;
}

/** What becomes of an order, unless it is another than when that was decided. */
interface Change {
  readonly order: Order;
  readonly readVersion: number;
  readonly event: OutboxRow | undefined;
  readonly audit: AuditRow;
}

/** What another feature does to its own tables for orders that are pending. */
export interface Effect {
  readonly name: string;
  /** SQL without parameters; it finds the UUIDs of the orders in `pending.id`. */
  readonly statement: string;
}

/** A row that another feature keeps of an order, in a table of its own with a column `order_id`. */
export interface Companion {
  readonly table: string;
  /** SQL, as after `SELECT`. */
  readonly columns: string;
}

const NEW_ORDERS = new RowArrays({
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
 * One statement is one transaction and one round trip, for all orders that arrive together. The unique key judges who was
 * first, also among orders of one batch: an answer names its order, so it tells the one that was remembered. Keys are
 * taken in their order, so that two batches with the same ones wait for each other and never in a circle.
 */
const INSERT_ALL = `
  WITH input AS (
    ${NEW_ORDERS.select()}
  ), remembered AS (
    INSERT INTO idempotency_keys (tenant_id, client_id, route, key, fingerprint, response_body)
    SELECT tenant_id, client_id, '${NEW.route}', key, fingerprint, answer FROM input
    ORDER BY key, tenant_id, client_id
    ON CONFLICT DO NOTHING
    RETURNING response_body
  ), fresh AS (
    SELECT * FROM input WHERE answer IN (SELECT response_body FROM remembered)
  ), kept AS (
    INSERT INTO orders (id, tenant_id, client_id, customer_id, status, currency, total_value, items, metadata, version,
                        event_sequence, created_at, updated_at)
    SELECT id, tenant_id, client_id, customer_id, '${NEW.order.status}', currency, total_value, items, metadata,
           ${NEW.order.version}, ${NEW.order.eventSequence}, created_at, created_at
    FROM fresh
  ), told AS (
    ${OUTBOX.insertSelect({
      id: 'event_id',
      aggregatetype: `'${NEW.event.aggregateType}'`,
      aggregateid: 'order_id',
      type: `'${NEW.event.type}'`,
      payload: 'event',
      sequence: `${NEW.order.eventSequence}`,
      traceparent: 'traceparent',
      request_id: 'request_id',
    })} FROM fresh
  ), shown AS (
    ${AUDIT_EVENTS.insertSelect({
      id: 'audit_id',
      occurred_at: 'occurred_at',
      tenant_id: 'tenant_id',
      client_id: 'client_id',
      action: `'${NEW.audit.action}'`,
      object: 'order_id',
      outcome: `'${NEW.audit.outcome}'`,
      status_code: `${NEW.audit.statusCode}`,
      error_code: 'NULL',
      request_id: 'request_id',
      address: 'address',
      certificate: 'certificate',
    })} FROM fresh
  )
  SELECT id FROM fresh`;

/**
 * The order with the id `wanted.id`, to join `LATERAL`. The limit keeps the plan what it is here, a step through the primary
 * key for each: made while the table was small, a plan would read all of it, and go on doing so when it is large.
 */
const theOrder = (columns: string, lock = '') =>
  `(SELECT ${columns} FROM orders WHERE orders.id = wanted.id LIMIT 1 ${lock}) AS found`;

/** What a statement does about orders that others have locked: wait for them, or leave them out. */
type Locking = '' | 'SKIP LOCKED';

/**
 * Runs a batch of writes. If an order of it stays locked for longer than `lock_timeout`, as an erasure may lock it, the
 * batch runs again past the locked orders, so that only those who asked for these get 503.
 * @param write gives for each order what came of it; false or undefined where there was no effect
 */
async function pastLocks<Result>(write: (locking: Locking) => Promise<Result[]>): Promise<(Result | ServiceError)[]> {
  try {
    return await write('');
  } catch (error) {
    if (!isLocked(error)) throw error;
    // An order without an effect was locked, or it has changed; which is not known, so its caller has to try again.
    const results = await write('SKIP LOCKED').catch((again: unknown) => {
      // It is the table that is locked, and for no order there is a way past.
      throw isLocked(again) ? ServiceError.unavailable(new Error('The table is locked', { cause: again })) : again;
    });
    return results.map((result) => result || ServiceError.unavailable(error));
  }
}

/**
 * An array whose length the planner does not see. A statement for a short one would seem so much cheaper than one for any
 * that it would be planned anew at each execution, which takes longer than to read an order.
 */
const array = (parameter: string) => `(SELECT ${parameter})`;

/** Orders that are asked for together, by one or several tenants: each id only beside the tenant that asked for it. */
const ordersOfTenants = (columns: string) => `
  SELECT found.* FROM unnest(${array('$1::uuid[]')}, ${array('$2::text[]')}) AS wanted (id, tenant_id)
  CROSS JOIN LATERAL ${theOrder(`${columns}, tenant_id`)}
  WHERE found.tenant_id = wanted.tenant_id`;
const FIND_FOR_ANY_TENANT = `SELECT ${ORDER_COLUMNS} FROM orders WHERE id = $1`;

const CHANGES = new RowArrays({
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
 * Changes the versions that were read, or nothing. Orders are locked in their order, so that two batches with the same ones
 * wait for each other and never in a circle. Its parameters are the changes, their events, and what the audit trail is to
 * show.
 */
const updateAll = (locking: Locking) => `
  WITH wanted AS (
    ${CHANGES.select()} ORDER BY id
  ), locked AS (
    SELECT wanted.* FROM wanted CROSS JOIN LATERAL ${theOrder('tenant_id, version', `FOR NO KEY UPDATE ${locking}`)}
    WHERE found.tenant_id = wanted.tenant_id AND found.version = read_version
  ), changed AS (
    UPDATE orders
    SET version = locked.version, event_sequence = locked.event_sequence, updated_at = locked.updated_at,
        status = locked.status, payment_id = locked.payment_id, payment_status = locked.payment_status,
        reason = locked.reason
    FROM locked WHERE orders.id = locked.id
    RETURNING event_id, audit_id
  ), told AS (
    ${OUTBOX.insertAll(1 + CHANGES.width)} WHERE id IN (SELECT event_id FROM changed)
  ), shown AS (
    ${AUDIT_EVENTS.insertAll(1 + CHANGES.width + OUTBOX.width)} WHERE id IN (SELECT audit_id FROM changed)
  )
  SELECT audit_id FROM changed`;

const UPDATE_ALL = { '': updateAll(''), 'SKIP LOCKED': updateAll('SKIP LOCKED') };

/** The table `orders`; only erasure and retention reach it too. The tenant is an argument of every read for a client. */
@Injectable()
export class OrderStore {
  private readonly inserts = new Batcher(
    (orders: readonly NewOrder[]) => this.insertAll(orders),
    ({ order }) => order.items.length,
  );
  private readonly finds = this.readsOf<Order>('find-orders', ORDER_COLUMNS);
  private readonly shows = this.readsOf<ShownOrder>('show-orders', SHOWN_COLUMNS);
  private readonly updates = new Batcher<Change, boolean>((changes) =>
    pastLocks((locking) => this.updateAll(changes, locking)),
  );
  /** By the name of their statement. */
  private readonly batchers = new Map<string, { own: string; batcher: Batcher<string, Order | undefined> }>();

  constructor(
    private readonly database: Database,
    private readonly idempotency: IdempotencyStore,
  ) {}

  /**
   * Keeps the order, unless its key was used before.
   * @returns the answer that the key was given first, or undefined when this order was kept
   * @throws {ServiceError} IDEMPOTENCY_KEY_REUSED, or SERVICE_UNAVAILABLE when too many orders wait already
   */
  insert(newOrder: NewOrder): Promise<string | undefined> {
    return this.idempotency.unlessTaken(newOrder, () => this.inserts.add(newOrder));
  }

  /** @returns for each order whether it was kept: its key was free */
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
    const values = NEW_ORDERS.parameters(rows);
    const fresh = await this.database.prepared<{ id: string }>('insert-orders', INSERT_ALL, values);
    const kept = new Set(fresh.map(({ id }) => id));
    return orders.map(({ order }) => kept.has(order.id));
  }

  find(tenantId: string, uuid: string): Promise<Order | undefined> {
    return this.finds.add({ tenantId, uuid });
  }

  /** As {@link find}; others can read it meanwhile, and not change it. */
  async hold(tx: Transaction, tenantId: string, uuid: string): Promise<Order | undefined> {
    const text = `SELECT ${ORDER_COLUMNS} FROM orders WHERE tenant_id = $1 AND id = $2 FOR SHARE`;
    const [order] = await tx.query<Order[]>(text, [tenantId, uuid]);
    return order;
  }

  /** As {@link find}, to be shown. */
  show(tenantId: string, uuid: string): Promise<ShownOrder | undefined> {
    return this.shows.add({ tenantId, uuid });
  }

  private readsOf<Row extends { readonly id: string }>(
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

  /**
   * For the service's own work, whoever the order belongs to; never for an id that a client gave.
   */
  async findForAnyTenant(uuid: string): Promise<Order | undefined> {
    const [order] = await this.database.prepared<Order>('find-for-any-tenant', FIND_FOR_ANY_TENANT, [uuid]);
    return order;
  }

  /**
   * The order and its companion as they were at one moment. For the service's own work, as {@link findForAnyTenant}.
   * @returns undefined when there is no order, or it has no companion
   */
  findWith<Row extends object>(uuid: string, { table, columns }: Companion): Promise<(Order & Row) | undefined> {
    return this.inBatch<Order & Row>(
      uuid,
      `find-orders-with-${table}`,
      columns,
      () => `SELECT found.*, companion.* FROM unnest(${array('$1::uuid[]')}) AS wanted (id)
       CROSS JOIN LATERAL ${theOrder(ORDER_COLUMNS)}
       CROSS JOIN LATERAL (SELECT ${columns} FROM ${table} WHERE order_id = wanted.id LIMIT 1) AS companion`,
    );
  }

  /**
   * Runs another feature's statement while the order is locked as `PENDING`. For the service's own work, as
   * {@link findForAnyTenant}.
   * @returns the order; undefined when it is not pending
   */
  whilePending(uuid: string, { name, statement }: Effect): Promise<Order | undefined> {
    // A limit of as many as there are has PostgreSQL expect few, so that the effect finds its rows by their keys too.
    return this.inBatch<Order>(
      uuid,
      `${name}-of-pending-orders`,
      statement,
      (locking) => `WITH pending AS (
         SELECT found.* FROM (SELECT unnest($1::uuid[]) AS id ORDER BY id LIMIT cardinality($1)) AS wanted
         CROSS JOIN LATERAL ${theOrder(ORDER_COLUMNS, `FOR NO KEY UPDATE ${locking}`)}
         WHERE found.status = 'PENDING'
       ), done AS (
         ${statement}
       )
       SELECT * FROM pending`,
    );
  }

  /**
   * Runs a statement for the orders that are asked for together. The tenant wall does not see it: it is nobody's.
   * @param own what differs between statements of one name, of which there may be but one
   */
  private inBatch<Row extends Order>(
    uuid: string,
    name: string,
    own: string,
    text: (locking: Locking) => string,
  ): Promise<Row | undefined> {
    if (currentContext()?.principal) throw new Error('A statement for any tenant was refused');
    const known = this.batchers.get(name);
    if (known && known.own !== own) throw new Error(`Two statements are named ${name}`);
    const batcher =
      known?.batcher ??
      new Batcher<string, Order | undefined>((uuids) =>
        pastLocks(async (locking) => {
          const found = await this.database.prepared<Row>(locking ? `${name}-unlocked` : name, text(locking), [uuids]);
          const orders = new Map(found.map((order) => [order.id, order]));
          return uuids.map((uuid) => orders.get(uuid));
        }),
      );
    if (!known) this.batchers.set(name, { own, batcher });
    return batcher.add(uuid) as Promise<Row | undefined>;
  }

  /**
   * Writes what changes in the life of an order, and the event that tells of it, if any does.
   * @param readVersion which it had when the change was decided
   * @returns false when it has another one by now: nothing was written
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
      ...CHANGES.parameters(rows),
      ...OUTBOX.parameters(changes.flatMap(({ event }) => event ?? [])),
      ...AUDIT_EVENTS.parameters(changes.map(({ audit }) => audit)),
    ]);
    const changed = new Set(written.map(({ audit_id }) => audit_id));
    return changes.map(({ audit }) => changed.has(audit.id));
  }

  /**
   * Newest first, and fewer than the limit, or none, where the orders are large.
   * @param limit 1 to 200
   */
  async list(tenantId: string, filter: OrderFilter, limit: number): Promise<Slice<ShownOrder>> {
    const { name, text, values } = listStatement(tenantId, filter, limit);
    const { items, nextBeforeId } = pageOf(await this.database.prepared<ListedOrder>(name, text, values), limit);
    // What is large is read by itself, so that no more is read of it than the page shows.
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
