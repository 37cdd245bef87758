import { Injectable, Logger } from '@nestjs/common';
import { type AuditRow, auditRow } from '@platform/audit';
import { Database } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { outboxRow } from '@platform/messaging';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter } from 'prom-client';
import type { EntityManager } from 'typeorm';
import { etagOf, matchesAny } from './etag';
import { toOrderId, toOrderUuid } from './order-id';
import { ORDER_TRANSITIONS, type OrderStatus } from './order-status';
import { OrderStore } from './order-store';
import type { Order } from './order.entity';
import { toEventData } from './order.view';

/** What the payment API answered for an order. */
export interface PaymentAnswer {
  readonly paymentId: string;
  readonly status: 'AUTHORIZED' | 'DECLINED';
  /** Why it was declined. */
  readonly reason?: string;
}

/** What is needed to have an order paid. */
export type PayableOrder = Pick<Order, 'status' | 'customerId' | 'paymentId' | 'paymentStatus'> & {
  readonly amount: { readonly currency: string; readonly value: string };
};

type Change = Partial<Pick<Order, 'status' | 'paymentId' | 'paymentStatus' | 'reason'>>;

/**
 * Everything that happens to an order after it was accepted. Each change locks the order, raises its version and, where
 * the status moves, appends the event that tells of it: in one transaction, so that of two who race the second sees what
 * the first did. All are idempotent.
 */
@Injectable()
export class OrderLifecycleService {
  private readonly logger = new Logger(OrderLifecycleService.name);

  constructor(
    private readonly database: Database,
    private readonly store: OrderStore,
    @InjectMetric('order_transitions_total') private readonly transitions: Counter<'to'>,
  ) {}

  /** @throws {ServiceError} ORDER_NOT_FOUND */
  async find(orderId: string): Promise<PayableOrder> {
    const order = await this.store.findAnyones(toOrderUuid(orderId));
    if (!order) throw new ServiceError('ORDER_NOT_FOUND', 'There is no such order');
    return toPayable(order);
  }

  /**
   * Cancels an order of the tenant.
   * @param ifMatch the header, where the client sent one
   * @throws {ServiceError} ORDER_NOT_FOUND, PRECONDITION_FAILED, ORDER_STATUS_CONFLICT
   */
  cancel(tenantId: string, orderId: string, reason: string, ifMatch: string | undefined): Promise<Order> {
    const uuid = toOrderUuid(orderId);
    return this.change(
      (tx) => this.store.lock(tx, tenantId, uuid),
      (order) => {
        // A client whose first answer was lost asks again with the ETag that it knew. What it wants is so: RFC 9110
        // section 13.1.1 lets us say yes.
        if (order.status === 'CANCELLED') return undefined;
        if (!matchesAny(ifMatch, etagOf(order.version))) {
          throw new ServiceError('PRECONDITION_FAILED', 'The order has changed; If-Match names another version');
        }
        if (!mayBecome(order, 'CANCELLED')) {
          throw new ServiceError('ORDER_STATUS_CONFLICT', `The order is ${order.status} and cannot be cancelled`);
        }
        return { status: 'CANCELLED', reason };
      },
    );
  }

  /**
   * Confirms or rejects a pending order. An order that has ended meanwhile keeps its status and learns of the payment,
   * which is then to be voided if it was authorised.
   */
  async applyPayment(orderId: string, { paymentId, status, reason }: PaymentAnswer): Promise<void> {
    await this.changeAnyones(orderId, (order) => {
      if (order.paymentId !== null) {
        // Its key was forgotten, or never honoured. Somebody has to look: we can void one payment only.
        if (order.paymentId !== paymentId)
          this.logger.error({ orderId }, 'The payment API holds two payments of an order');
        return undefined;
      }
      const payment = { paymentId, paymentStatus: status };
      if (order.status !== 'PENDING') return payment;
      return status === 'AUTHORIZED'
        ? { ...payment, status: 'CONFIRMED' }
        : { ...payment, status: 'REJECTED', reason: reason ?? 'payment_declined' };
    });
  }

  /** The order, if it is pending, as it stays until `tx` ends. */
  async lockPending(tx: EntityManager, orderId: string): Promise<PayableOrder | undefined> {
    const order = await this.store.lockAnyones(tx, toOrderUuid(orderId));
    return order?.status === 'PENDING' ? toPayable(order) : undefined;
  }

  /** Rejects an order whose payment is not known. */
  async reject(orderId: string, reason: string): Promise<void> {
    await this.changeAnyones(orderId, (order) =>
      order.status === 'PENDING' ? { status: 'REJECTED', reason } : undefined,
    );
  }

  async markVoided(orderId: string): Promise<void> {
    await this.changeAnyones(orderId, (order) =>
      order.paymentStatus === 'AUTHORIZED' ? { paymentStatus: 'VOIDED' } : undefined,
    );
  }

  private changeAnyones(orderId: string, decide: (order: Order) => Change | undefined): Promise<Order> {
    const uuid = toOrderUuid(orderId);
    return this.change((tx) => this.store.lockAnyones(tx, uuid), decide);
  }

  /** @param decide what becomes of the order; undefined leaves it as it is */
  private async change(
    lock: (tx: EntityManager) => Promise<Order | null>,
    decide: (order: Order) => Change | undefined,
  ): Promise<Order> {
    const { order, movedTo } = await this.database.inTransaction(async (tx) => {
      const order = await lock(tx);
      if (!order) throw new ServiceError('ORDER_NOT_FOUND', 'There is no such order');
      const change = decide(order);
      if (!change) return { order };
      const movedTo = change.status;
      if (movedTo && !mayBecome(order, movedTo))
        throw new Error(`An order cannot go from ${order.status} to ${movedTo}`);
      const { version, eventSequence } = order;
      Object.assign(order, change, { version: version + 1, updatedAt: new Date() });
      if (movedTo) order.eventSequence = eventSequence + 1;
      await this.store.update(tx, order, movedTo && eventOf(order), auditOf(order, movedTo));
      return { order, movedTo };
    });
    if (movedTo) this.transitions.inc({ to: movedTo });
    return order;
  }
}

function toPayable({ status, customerId, currency, totalValue, paymentId, paymentStatus }: Order): PayableOrder {
  return { status, customerId, amount: { currency, value: totalValue }, paymentId, paymentStatus };
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

/** @param movedTo undefined when only what is known of the payment has changed */
function auditOf({ tenantId, id }: Order, movedTo: OrderStatus | undefined): AuditRow {
  return auditRow({
    action: (movedTo && ACTIONS[movedTo]) ?? 'order.payment',
    tenantId,
    object: toOrderId(id),
    outcome: 'succeeded',
    // Only a client cancels; all else the service does by itself, and answers nobody.
    statusCode: movedTo === 'CANCELLED' ? 200 : undefined,
  });
}

function eventOf(order: Order) {
  return outboxRow({
    type: `order.${order.status.toLowerCase()}`,
    aggregateType: 'order',
    aggregateId: toOrderId(order.id),
    sequence: order.eventSequence,
    data: { ...toEventData(order), ...(order.reason !== null && { reason: order.reason }) },
  });
}
