import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter } from 'prom-client';
import { rateLimited, WINDOW_SECONDS } from './budget';
import { networkOf } from './network-of';

/** Beyond this, the networks whose windows end first are evicted. 10,000 take about 2 MB. */
const MAX_NETWORKS = 10_000;

interface Window {
  failures: number;
  /** By `performance.now()`. */
  readonly endsAt: number;
}

/**
 * Counts failed authentications by address, so that a flood of invalid tokens is refused before it costs signature
 * checks. In memory of this process. Calls with valid tokens do not count.
 */
@Injectable()
export class FailedAuthentications {
  /** In the order in which they end, because all are equally long. */
  private readonly windows = new Map<string, Window>();
  private readonly perMinute: number;

  constructor(
    @Inject(CONFIG) config: Config,
    @InjectMetric('rate_limited_total') private readonly refusals: Counter<'limit'>,
  ) {
    this.perMinute = config.rateLimit.failedAuthPerMinute;
    refusals.inc({ limit: 'address' }, 0); // otherwise Prometheus sees no increase in the first ones
  }

  /**
   * To be called before a token is verified.
   * @param address IP address of the client
   * @throws {ServiceError} RATE_LIMITED if the address has reached its limit of failures
   */
  assertWithinLimit(address: string | undefined): void {
    if (this.windows.size === 0 || address === undefined) return;
    const window = this.windows.get(networkOf(address));
    if (!window || window.failures < this.perMinute) return;
    const resetMs = window.endsAt - performance.now();
    if (resetMs <= 0) return;
    this.refusals.inc({ limit: 'address' });
    throw rateLimited({ policy: 'address', quota: this.perMinute, remaining: 0, resetMs });
  }

  count(address: string | undefined): void {
    if (this.perMinute === 0 || address === undefined) return;
    const network = networkOf(address);
    const now = performance.now();
    const window = this.windows.get(network);
    if (window && window.endsAt > now) {
      window.failures += 1;
      return;
    }
    this.windows.delete(network);
    for (const [first, { endsAt }] of this.windows) {
      if (endsAt > now && this.windows.size < MAX_NETWORKS) break;
      this.windows.delete(first);
    }
    this.windows.set(network, { failures: 1, endsAt: now + WINDOW_SECONDS * 1_000 });
  }
}
