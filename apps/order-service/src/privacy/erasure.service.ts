import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { ServiceError } from '@platform/errors';
import type { Principal } from '@platform/request-context';
import { ErasureStore, PaymentUnderWay } from './erasure-store';
import type { ErasureView } from './erasure.view';
import { pseudonymOf } from './pseudonym';

/** How long to wait for a payment under way; most are answered sooner. */
const MAX_WAIT_MS = 3_000;
/** Doubled each time, because every attempt takes a connection of its own. */
const FIRST_PAUSE_MS = 50;

@Injectable()
export class ErasureService {
  private readonly key: string;

  constructor(
    @Inject(CONFIG) { pseudonymKey }: Config,
    private readonly store: ErasureStore,
  ) {
    if (pseudonymKey === undefined) throw new Error('PSEUDONYM_KEY is required');
    this.key = pseudonymKey;
  }

  /**
   * Erases a customer of the tenant. May be repeated, and then continues where it stopped.
   * @throws {ServiceError} ORDER_STATUS_CONFLICT while the payment API has not answered for one of the customer's
   *   orders
   */
  async erase({ tenantId }: Principal, customerId: string): Promise<ErasureView> {
    const pseudonym = pseudonymOf(this.key, tenantId, customerId);
    const deadline = performance.now() + MAX_WAIT_MS;
    let ordersErased = 0;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs *= 2) {
      const erasedAt = new Date();
      try {
        ordersErased += await this.store.erase({ tenantId, customerId, pseudonym, erasedAt });
        return { customerId, pseudonym, ordersErased, erasedAt: erasedAt.toISOString() };
      } catch (error) {
        if (!(error instanceof PaymentUnderWay)) throw error;
        ordersErased += error.ordersErased;
        if (performance.now() > deadline) {
          throw new ServiceError('ORDER_STATUS_CONFLICT', 'An order of the customer is being paid; try again later');
        }
      }
      await delay(pauseMs);
    }
  }
}
