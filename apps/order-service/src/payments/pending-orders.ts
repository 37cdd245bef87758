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
    oldestToVoid.remove(); // before the first measurement, a 0 would look like one
  }

  async measure(): Promise<void> {
    await Promise.all([
      this.measurePending().catch((error: unknown) => {
        this.oldestAge.reset(); // a stale value would look current
        this.logger.warn({ err: error }, 'The age of pending orders cannot be measured at the moment');
      }),
      this.measureToVoid().catch((error: unknown) => {
        this.oldestToVoid.remove();
        this.logger.warn({ err: error }, 'The age of payments to void cannot be measured at the moment');
      }),
    ]);
  }

  private async measurePending(): Promise<void> {
    const { withCompanion, alone } = await this.orders.oldestPending(DUE_PAYMENT);
    this.oldestAge.set({ payment: 'due' }, withCompanion);
    this.oldestAge.set({ payment: 'none' }, alone);
  }

  private async measureToVoid(): Promise<void> {
    this.oldestToVoid.set(await this.orders.oldestToVoid());
  }

  protected async run(): Promise<void> {
    while (!this.stop.signal.aborted) {
      await this.measure();
      await this.pause(MEASURE_EVERY_MS);
    }
  }
}
