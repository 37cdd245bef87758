import { Module } from '@nestjs/common';
import { JobsModule } from '@platform/jobs';
import { ResilienceModule } from '@platform/resilience';
import { makeCounterProvider, makeGaugeProvider } from '@willsoto/nestjs-prometheus';
import { OrderLifecycleModule } from '../orders/order-lifecycle.module';
import { PaymentApi } from './payment-api';
import { PaymentStore } from './payment-store';
import { PaymentsConsumer } from './payments.consumer';
import { PaymentsService } from './payments.service';
import { PendingOrders } from './pending-orders';

@Module({
  imports: [
    OrderLifecycleModule,
    JobsModule,
    ResilienceModule.forDependency('payment', ({ paymentApi }) => paymentApi),
  ],
  controllers: [PaymentsConsumer],
  providers: [
    PaymentsService,
    PaymentStore,
    PaymentApi,
    PendingOrders,
    makeCounterProvider({
      name: 'payment_stuck_attempts_total',
      help: 'Attempts that did not settle a payment, from the tenth attempt of an order on',
    }),
    makeGaugeProvider({
      name: 'orders_pending_oldest_age_seconds',
      help: 'Age of the oldest PENDING order, by whether its payment is due (a worker has taken note of it)',
      labelNames: ['payment'],
    }),
    makeGaugeProvider({
      name: 'payments_to_void_oldest_age_seconds',
      help: 'For how long the payment of the oldest order that has ended has waited to be voided',
    }),
  ],
})
export class PaymentsModule {}
