import { Module } from '@nestjs/common';
import { makeCounterProvider } from '@willsoto/nestjs-prometheus';
import { OrderCursor } from './order-cursor';
import { OrderLifecycleModule } from './order-lifecycle.module';
import { OrdersController } from './orders.controller';
import { OrdersService } from './orders.service';

@Module({
  imports: [OrderLifecycleModule],
  controllers: [OrdersController],
  providers: [
    OrdersService,
    OrderCursor,
    makeCounterProvider({ name: 'orders_created_total', help: 'Orders accepted' }),
    makeCounterProvider({ name: 'idempotent_replays_total', help: 'Creates answered with their first answer again' }),
  ],
})
export class OrdersModule {}
