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
import { type Companion, type Effect, OrderStore } from './order-store';
import type { Order } from './order.entity';
import { toEventData } from './order.view';

export { toOrderId, toOrderUuid, type Order };

/** What the payment API answered for an order. */
export interface PaymentAnswer {
  readonly paymentId: string;
  readonly status: 'AUTHORIZED' | 'DECLINED';
  /** Why it was declined. */
  readonly reason?: string;
}

type Change = Partial<Pick<Order, 'status' | 'paymentId' | 'paymentStatus' | 'reason'>>;

/** How often a change is tried anew because another came first. */
const ROUNDS = 20;

/**
 * Everything that happens to an order after it was accepted. Each change raises its version and, where the status moves,
 * appends the event that tells of it: in one statement, which changes the version that was read or nothing, so that of two
 * who race the second sees what the first did. All are idempotent.
 */
@Injectable()
export class OrderLifecycleService {
  private readonly logger = new Logger(OrderLifecycleService.name);

  constructor(
    private readonly store: OrderStore,
    @InjectMetric('order_transitions_total') private readonly transitions: Counter<'to'>,
  ) {}

  /**
   * An order of the tenant, as it stays until `tx` ends: what another feature asks before it does something for a client
   * that names an order.
   * @throws {ServiceError} ORDER_NOT_FOUND, also for an order of another tenant
   */
  async hold(tx: Transaction, tenantId: string, orderId: string): Promise<Order> {
    const order = await this.store.hold(tx, tenantId, toOrderUuid(orderId));
    if (!order) throw new ServiceError('ORDER_NOT_FOUND', 'There is no such order');
    return order;
  }

  /**
   * The order, and what another feature keeps of it, as they were at one moment. For the service's own work, whoever the
   * order belongs to; never for an id that a client gave.
   * @throws {ServiceError} ORDER_NOT_FOUND, also when nothing is kept of it
   */
  async findWith<Row extends object>(orderId: string, companion: Companion): Promise<Order & Row> {
    const found = await this.store.findWith<Row>(toOrderUuid(orderId), companion);
    if (!found) throw new ServiceError('ORDER_NOT_FOUND', `There is no such order, or not in ${companion.table}`);
    return found;
  }

  /**
   * Cancels an order of the tenant.
   * @param ifMatch the header, where the client sent one
   * @throws {ServiceError} ORDER_NOT_FOUND, PRECONDITION_FAILED, ORDER_STATUS_CONFLICT
   */
  cancel(tenantId: string, orderId: string, reason: string, ifMatch: string | undefined): Promise<Order> {
    const uuid = toOrderUuid(orderId);
    return this.change(
      () => this.store.find(tenantId, uuid),
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
  applyPayment(known: Order, { paymentId, status, reason }: PaymentAnswer): Promise<Order> {
    return this.changeKnown(known, (order) => {
      if (order.paymentId !== null) {
        // Its key was forgotten, or never honoured. Somebody has to look: we can void one payment only.
        if (order.paymentId !== paymentId)
          this.logger.error({ orderId: toOrderId(order.id) }, 'The payment API holds two payments of an order');
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
   * @param effect of all orders for which it is asked together
   * @returns the order; undefined when it is not pending, and there was no effect
   */
  whilePending(orderId: string, effect: Effect): Promise<Order | undefined> {
    return this.store.whilePending(toOrderUuid(orderId), effect);
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

  /** Reads the order only where it is another by now than the one that is known. */
  private changeKnown(known: Order, decide: (order: Order) => Change | undefined): Promise<Order> {
    return this.change(() => this.store.findForAnyTenant(known.id), decide, known);
  }

  /** @param decide what becomes of the order; undefined leaves it as it is */
  private async change(
    read: () => Promise<Order | undefined>,
    decide: (order: Order) => Change | undefined,
    known?: Order,
  ): Promise<Order> {
    for (let round = 1; round <= ROUNDS; round += 1) {
      const order = (round === 1 && known) || (await read());
      if (!order) throw new ServiceError('ORDER_NOT_FOUND', 'There is no such order');
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
