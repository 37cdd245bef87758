import { Module } from '@nestjs/common';
import { JobsModule } from '@platform/jobs';
import { ResilienceModule } from '@platform/resilience';
import { makeCounterProvider } from '@willsoto/nestjs-prometheus';
import { OrderLifecycleModule } from '../orders/order-lifecycle.module';
import { PaymentApi } from './payment-api';
import { PaymentStore } from './payment-store';
import { PaymentsConsumer } from './payments.consumer';
import { PaymentsService } from './payments.service';

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
    makeCounterProvider({
      name: 'payment_stuck_attempts_total',
      help: 'Attempts that did not settle a payment, from the tenth attempt of an order on',
    }),
  ],
})
export class PaymentsModule {}
