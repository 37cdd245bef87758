import { Module } from '@nestjs/common';
import { IdempotencyModule } from '@platform/idempotency';
import { makeCounterProvider } from '@willsoto/nestjs-prometheus';
import { OrderCursor } from './order-cursor';
import { OrderStore } from './order-store';
import { OrdersController } from './orders.controller';
import { OrdersService } from './orders.service';

@Module({
  imports: [IdempotencyModule],
  controllers: [OrdersController],
  providers: [
    OrdersService,
    OrderStore,
    OrderCursor,
    makeCounterProvider({ name: 'orders_created_total', help: 'Orders accepted' }),
    makeCounterProvider({ name: 'idempotent_replays_total', help: 'Creates answered with their first answer again' }),
  ],
})
export class OrdersModule {}
