import { Injectable } from '@nestjs/common';
import { AUDIT_EVENTS, auditRow } from '@platform/audit';
import { ServiceError } from '@platform/errors';
import { fingerprint, IdempotencyStore } from '@platform/idempotency';
import { newTimeId } from '@platform/ids';
import { OUTBOX, outboxRow } from '@platform/messaging';
import type { Principal } from '@platform/request-context';
import { fromUUID } from 'typeid-js';
import { OrderLifecycleService } from '../../apps/order-service/src/orders/order-lifecycle.service';
import type { CreateRefundDto } from './create-refund.dto';
import { RefundStore } from './refund-store';

@Injectable()
export class RefundsService {
  constructor(
    private readonly idempotency: IdempotencyStore,
    private readonly orders: OrderLifecycleService,
    private readonly store: RefundStore,
  ) {}

  async create({ tenantId, clientId }: Principal, key: string, orderId: string, refund: CreateRefundDto) {
    const { idempotencyKey: _, ...asked } = refund;
    const id = newTimeId();
    const refundId = fromUUID(id, 'rfd');
    const data = { refundId, orderId };
    const event = { type: 'refund.requested', aggregateType: 'refund', aggregateId: refundId, sequence: 1, data };
    const audit = { object: orderId, outcome: 'succeeded', statusCode: 201 } as const;
    const scope = { tenantId, clientId, route: 'POST /v1/orders/:orderId/refunds' };
    const answer = JSON.stringify(data); // made before the change: nothing in it comes from the database
    const request = { scope, key, fingerprint: fingerprint(key, { orderId, ...asked }), answer };
    const first = await this.idempotency.once(request, async (tx) => {
      const order = await this.orders.findAndLock(tx, tenantId, orderId);
      if (order.status !== 'CONFIRMED') throw new ServiceError('ORDER_STATUS_CONFLICT', `It is ${order.status}`);
      const reason = order.customerId.startsWith('erased_') ? undefined : asked.reason;
      await this.store.insert(tx, { id, tenantId, orderId: order.id, amount: asked.amount, reason });
      await tx.query(OUTBOX.insert(), OUTBOX.values(outboxRow(event)));
      await tx.query(AUDIT_EVENTS.insert(), AUDIT_EVENTS.values(auditRow(audit)));
    });
    return { body: first ?? answer, replayed: first !== undefined };
  }
}
