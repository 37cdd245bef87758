import { Controller } from '@nestjs/common';
import { Ctx, KafkaContext } from '@nestjs/microservices';
import { EventConsumer, OnEvents } from '@platform/messaging';
import { ORDERS_TOPIC } from '../orders-topic';
import { PaymentsService } from './payments.service';

/** Hears of orders, and has them looked at. The payment itself is a job, so that nobody behind it waits. */
@Controller()
export class PaymentsConsumer {
  constructor(
    private readonly events: EventConsumer,
    private readonly payments: PaymentsService,
  ) {}

  @OnEvents(ORDERS_TOPIC)
  consume(@Ctx() context: KafkaContext): Promise<void> {
    return this.events.consume('payments', context, {
      'order.created': (tx, events) => this.payments.lookAt(tx, events),
      'order.cancelled': (tx, events) => this.payments.lookAt(tx, events),
    });
  }
}
