import { Controller } from '@nestjs/common';
import { Ctx, KafkaContext } from '@nestjs/microservices';
import { JobQueue } from '@platform/jobs';
import { EventConsumer, oneByOne, OnEvents } from '@platform/messaging';
import { ORDERS_TOPIC } from '../../apps/order-service/src/orders-topic';

@Controller()
export class RefundsConsumer {
  constructor(
    private readonly events: EventConsumer,
    private readonly jobs: JobQueue,
  ) {}

  @OnEvents(ORDERS_TOPIC)
  consume(@Ctx() context: KafkaContext) {
    return this.events.consume('refunds', context, {
      'refund.requested': oneByOne((tx, { subject }) => this.jobs.enqueue(tx, 'refund', { refundId: subject })),
    });
  }
}
