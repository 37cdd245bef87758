import { Injectable, Logger } from '@nestjs/common';
import { type AuditRow, auditRow } from '@platform/audit';
import type { Transaction } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { outboxRow } from '@platform/messaging';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter } from 'prom-client';
import { etagOf, matchesAny } from './etag';
import { toOrderId, toOrderUuid } from './order-id';
import { ORDER_TRANSITIONS, type OrderStatus } from './order-status';
import { type Companion, type Effect, OrderStore, type PendingAges } from './order-store';
import type { Order } from './order.entity';
import { toEventData } from './order.view';

export { toOrderId, toOrderUuid, type Effect, type Order };

/** What the payment API answered for an order. */
export interface PaymentAnswer {
  readonly paymentId: string;
  readonly status: 'AUTHORIZED' | 'DECLINED';
  /** Why it was declined. */
  readonly reason?: string;
}

type Change = Partial<Pick<Order, 'status' | 'paymentId' | 'paymentStatus' | 'reason'>>;

/** How often a change is attempted if concurrent ones keep coming first. */
const MAX_ROUNDS = 20;

/**
 * Changes orders after they were accepted. Each change raises the order's version and, if the status changes, appends
 * an event, both in one statement with optimistic locking: it applies to the version that was read, or not at all. The
 * loser of a race reads the order again and decides again. All changes are idempotent.
 */
@Injectable()
export class OrderLifecycleService {
  private readonly logger = new Logger(OrderLifecycleService.name);

  constructor(
    private readonly store: OrderStore,
    @InjectMetric('order_transitions_total') private readonly transitions: Counter<'to'>,
  ) {}

  /**
   * Reads an order of the tenant. For features that show a client something about an order.
   * @throws {ServiceError} ORDER_NOT_FOUND, also for an order of another tenant
   */
  async find(tenantId: string, orderId: string): Promise<Order> {
    return requireFound(await this.store.find(tenantId, toOrderUuid(orderId)));
  }

  /**
   * As {@link find}, and nobody changes the order until `tx` ends. For features that act for a client on an order that
   * it names. The lock is shared (`FOR SHARE`), so two transactions may hold it at once: it keeps the order as it is,
   * not your own rows. For a rule over these (refunds not above the total), update or lock a row of yours, or use a
   * unique key.
   */
  async findAndLock(tx: Transaction, tenantId: string, orderId: string): Promise<Order> {
    return requireFound(await this.store.findAndLock(tx, tenantId, toOrderUuid(orderId)));
  }

  /**
   * As {@link findAndLock}, for the service's own work on orders of any tenant, such as a consumer's; never for an id
   * that a client gave.
   */
  async findAndLockForAnyTenant(tx: Transaction, orderId: string): Promise<Order> {
    return requireFound(await this.store.findAndLockForAnyTenant(tx, toOrderUuid(orderId)));
  }

  /**
   * The order together with another feature's row about it, both from one snapshot. For the service's own work on
   * orders of any tenant; never for an id that a client gave.
   * @throws {ServiceError} ORDER_NOT_FOUND, also when there is no such row
   */
  async findWith<Row extends object>(orderId: string, companion: Companion): Promise<Order & Row> {
    const found = await this.store.findWith<Row>(toOrderUuid(orderId), companion);
    if (!found) throw new ServiceError('ORDER_NOT_FOUND', `There is no such order, or not in ${companion.table}`);
    return found;
  }

  /**
   * Cancels an order of the tenant.
   * @param ifMatch the header `If-Match`, if the client sent it
   * @throws {ServiceError} ORDER_NOT_FOUND, PRECONDITION_FAILED, ORDER_STATUS_CONFLICT
   */
  cancel(tenantId: string, orderId: string, reason: string, ifMatch: string | undefined): Promise<Order> {
    const uuid = toOrderUuid(orderId);
    return this.change(
      () => this.store.find(tenantId, uuid),
      (order) => {
        // A client that lost the first answer retries with the old ETag. RFC 9110 section 13.1.1 allows success when
        // the requested change has been made already.
        if (order.status === 'CANCELLED') return undefined;
        // Nor is a precondition evaluated if the request would fail without it (section 13.2.1).
        if (!mayBecome(order, 'CANCELLED')) {
          throw new ServiceError('ORDER_STATUS_CONFLICT', `The order is ${order.status} and cannot be cancelled`);
        }
        if (!matchesAny(ifMatch, etagOf(order.version))) {
          throw new ServiceError('PRECONDITION_FAILED', 'The order has changed; If-Match names another version');
        }
        return { status: 'CANCELLED', reason };
      },
    );
  }

  /**
   * Confirms or rejects a pending order. An order that has ended meanwhile keeps its status: only the payment is
   * recorded, which has to be voided if it was authorised.
   */
  applyPayment(known: Order, { paymentId, status, reason }: PaymentAnswer): Promise<Order> {
    return this.changeKnown(known, (order) => {
      if (order.paymentId !== null) {
        // The payment API forgot the idempotency key or ignored it. An operator has to intervene: only one payment is
        // recorded here and can be voided.
        if (order.paymentId !== paymentId)
          this.logger.error(
            {
              orderId: toOrderId(order.id),
              paymentId: order.paymentId,
              otherPaymentId: paymentId,
              otherStatus: status,
            },
            'The payment API holds two payments of an order; only the first is recorded: settle the other one there',
          );
        return undefined;
      }
      const payment = { paymentId, paymentStatus: status };
      if (order.status !== 'PENDING') return payment;
      return status === 'AUTHORIZED'
        ? { ...payment, status: 'CONFIRMED' }
        : { ...payment, status: 'REJECTED', reason: reason ?? 'payment_declined' };
    });
  }

  /**
   * Runs another feature's statement while the order is locked as `PENDING`.
   * @param effect one statement for all orders that are requested together
   * @returns the order with what the statement returned for it; undefined when it is not pending, or the statement
   *   returned nothing
   */
  whilePending<Row extends object>(orderId: string, effect: Effect): Promise<(Order & Row) | undefined> {
    return this.store.whilePending<Row>(toOrderUuid(orderId), effect);
  }

  /** Ages of the oldest pending orders, by whether they have a row of another feature; see {@link OrderStore}. */
  oldestPending(companion: Companion): Promise<PendingAges> {
    return this.store.oldestPending(companion);
  }

  /** For how long, in seconds, an order has been cancelled or rejected while its payment is still authorised; 0 if none is. */
  oldestToVoid(): Promise<number> {
    return this.store.oldestToVoid();
  }

  /** Rejects an order whose payment is not known. */
  async reject(known: Order, reason: string): Promise<void> {
    await this.changeKnown(known, (order) => (order.status === 'PENDING' ? { status: 'REJECTED', reason } : undefined));
  }

  markVoided(known: Order): Promise<Order> {
    return this.changeKnown(known, (order) =>
      order.paymentStatus === 'AUTHORIZED' ? { paymentStatus: 'VOIDED' } : undefined,
    );
  }

  /** Decides on the order as the caller knows it, and reads it again only if it has changed since. */
  private changeKnown(known: Order, decide: (order: Order) => Change | undefined): Promise<Order> {
    return this.change(() => this.store.findForAnyTenant(known.id), decide, known);
  }

  /** @param decide returns what to change; undefined leaves the order as it is */
  private async change(
    read: () => Promise<Order | undefined>,
    decide: (order: Order) => Change | undefined,
    known?: Order,
  ): Promise<Order> {
    for (let round = 1; round <= MAX_ROUNDS; round += 1) {
      const order = (round === 1 && known) || requireFound(await read());
      const change = decide(order);
      if (!change) return order;
      const movedTo = change.status;
      if (movedTo && !mayBecome(order, movedTo))
        throw new Error(`An order cannot go from ${order.status} to ${movedTo}`);
      const changed: Order = { ...order, ...change, version: order.version + 1, updatedAt: new Date() };
      if (movedTo) changed.eventSequence += 1;
      if (await this.store.update(changed, order.version, movedTo && eventOf(changed), auditOf(changed, movedTo))) {
        if (movedTo) this.transitions.inc({ to: movedTo });
        return changed;
      }
    }
    throw ServiceError.unavailable(new Error('Others changed the order again and again'));
  }
}

function requireFound(order: Order | undefined): Order {
  if (!order) throw new ServiceError('ORDER_NOT_FOUND', 'There is no such order');
  return order;
}

function mayBecome(order: Order, to: OrderStatus): boolean {
  const allowed: readonly OrderStatus[] = ORDER_TRANSITIONS[order.status];
  return allowed.includes(to);
}

const ACTIONS: Partial<Record<OrderStatus, string>> = {
  CONFIRMED: 'order.confirm',
  REJECTED: 'order.reject',
  CANCELLED: 'order.cancel',
};

/** @param movedTo undefined when only the payment has changed */
function auditOf({ tenantId, id }: Order, movedTo: OrderStatus | undefined): AuditRow {
  return auditRow({
    action: (movedTo && ACTIONS[movedTo]) ?? 'order.payment',
    tenantId,
    object: toOrderId(id),
    outcome: 'succeeded',
    // Only cancelling answers a request; the service makes all other changes on its own.
    statusCode: movedTo === 'CANCELLED' ? 200 : undefined,
  });
}

function eventOf(order: Order) {
  return outboxRow({
    type: `order.${order.status.toLowerCase()}`,
    aggregateType: 'order',
    aggregateId: toOrderId(order.id),
    sequence: order.eventSequence,
    data: toEventData(order),
  });
}
