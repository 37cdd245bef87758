import { Injectable, Logger } from '@nestjs/common';
import { BackgroundWork } from '@platform/background';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Gauge } from 'prom-client';
import { OrderLifecycleService } from '../orders/order-lifecycle.service';
import { DUE_PAYMENT } from './payment-store';

const MEASURE_EVERY_MS = 60_000;

/**
 * Measures how long orders have waited for their payment, or for it to be voided. An order whose event was lost is in no
 * queue, and waits for ever. See `docs/runbooks/orders-pending.md`.
 */
@Injectable()
export class PendingOrders extends BackgroundWork {
  private readonly logger = new Logger(PendingOrders.name);

  constructor(
    private readonly orders: OrderLifecycleService,
    @InjectMetric('orders_pending_oldest_age_seconds') private readonly oldestAge: Gauge<'payment'>,
    @InjectMetric('payments_to_void_oldest_age_seconds') private readonly oldestToVoid: Gauge,
  ) {
    super();
  }

  async measure(): Promise<void> {
    try {
      const { withCompanion, alone } = await this.orders.oldestPending(DUE_PAYMENT);
      this.oldestAge.set({ payment: 'due' }, withCompanion);
      this.oldestAge.set({ payment: 'none' }, alone);
      this.oldestToVoid.set(await this.orders.oldestToVoid());
    } catch (error) {
      this.oldestAge.reset(); // a stale value would look current
      this.oldestToVoid.remove();
      this.logger.warn({ err: error }, 'The age of pending orders cannot be measured at the moment');
    }
  }

  protected async run(): Promise<void> {
    while (!this.stop.signal.aborted) {
      await this.measure();
      await this.pause(MEASURE_EVERY_MS);
    }
  }
}
