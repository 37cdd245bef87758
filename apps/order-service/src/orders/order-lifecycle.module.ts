import { Module } from '@nestjs/common';
import { IdempotencyModule } from '@platform/idempotency';
import { makeCounterProvider } from '@willsoto/nestjs-prometheus';
import { OrderLifecycleService } from './order-lifecycle.service';
import { OrderStore } from './order-store';

/** Orders without HTTP routes: for features that change them, in either role. */
@Module({
  imports: [IdempotencyModule],
  providers: [
    OrderStore,
    OrderLifecycleService,
    makeCounterProvider({
      name: 'order_transitions_total',
      help: 'Orders that moved to another status',
      labelNames: ['to'],
    }),
  ],
  exports: [OrderStore, OrderLifecycleService],
})
export class OrderLifecycleModule {}
