import { Module } from '@nestjs/common';
import { PagingModule } from '@platform/paging';
import { makeCounterProvider } from '@willsoto/nestjs-prometheus';
import { OrderLifecycleModule } from './order-lifecycle.module';
import { OrdersController } from './orders.controller';
import { OrdersService } from './orders.service';

@Module({
  imports: [PagingModule, OrderLifecycleModule],
  controllers: [OrdersController],
  providers: [
    OrdersService,
    makeCounterProvider({ name: 'orders_created_total', help: 'Orders accepted' }),
    makeCounterProvider({
      name: 'idempotent_replays_total',
      help: 'Create requests answered with the first answer to their key again',
    }),
  ],
})
export class OrdersModule {}
