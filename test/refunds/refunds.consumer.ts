import { Controller } from '@nestjs/common';
import { Ctx, KafkaContext } from '@nestjs/microservices';
import { JobQueue } from '@platform/jobs';
import { EventConsumer, MalformedEvent, oneByOne, OnEvents } from '@platform/messaging';
import { z } from 'zod';
import { ORDERS_TOPIC } from '../../apps/order-service/src/orders-topic';
import { toOrderUuid } from '../../apps/order-service/src/orders/order-lifecycle.service';
import { RefundStore } from './refund-store';

const ERASED = z.object({ orderIds: z.array(z.string()) });

@Controller()
export class RefundsConsumer {
  constructor(
    private readonly events: EventConsumer,
    private readonly jobs: JobQueue,
    private readonly store: RefundStore,
  ) {}

  @OnEvents(ORDERS_TOPIC)
  consume(@Ctx() context: KafkaContext) {
    return this.events.consume('refunds', context, {
      'refund.requested': oneByOne((tx, { subject }) => this.jobs.enqueue(tx, 'refund', { refundId: subject })),
      'customer.erased': oneByOne(async (tx, { data }) => {
        const { success, data: erased } = ERASED.safeParse(data);
        if (!success) throw new MalformedEvent('The data is not that of customer.erased');
        await this.store.forget(tx, erased.orderIds.map(toOrderUuid));
      }),
    });
  }
}
