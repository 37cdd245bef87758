import { Module } from '@nestjs/common';
import { IdempotencyModule } from '@platform/idempotency';
import { OrderLifecycleModule } from '../../apps/order-service/src/orders/order-lifecycle.module';
import { RefundStore } from './refund-store';
import { RefundsController } from './refunds.controller';
import { RefundsService } from './refunds.service';

@Module({
  imports: [IdempotencyModule, OrderLifecycleModule],
  controllers: [RefundsController],
  providers: [RefundsService, RefundStore],
})
export class RefundsModule {}
