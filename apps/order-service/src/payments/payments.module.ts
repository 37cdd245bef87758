import { Module } from '@nestjs/common';
import { JobsModule } from '@platform/jobs';
import { ResilienceModule } from '@platform/resilience';
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
  providers: [PaymentsService, PaymentStore, PaymentApi],
})
export class PaymentsModule {}
