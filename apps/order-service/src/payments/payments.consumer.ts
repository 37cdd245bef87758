import { Controller } from '@nestjs/common';
import { Ctx, KafkaContext } from '@nestjs/microservices';
import { EventConsumer, OnEvents } from '@platform/messaging';
import { ORDERS_TOPIC } from '../orders-topic';
import { PaymentsService } from './payments.service';

/** Enqueues a payment job for each order that is new or cancelled, so that later events do not wait for payments. */
@Controller()
export class PaymentsConsumer {
  constructor(
    private readonly events: EventConsumer,
    private readonly payments: PaymentsService,
  ) {}

  @OnEvents(ORDERS_TOPIC)
  consume(@Ctx() context: KafkaContext): Promise<void> {
    return this.events.consume('payments', context, {
      'order.created': (tx, events) => this.payments.enqueue(tx, events),
      'order.cancelled': (tx, events) => this.payments.enqueue(tx, events),
    });
  }
}
