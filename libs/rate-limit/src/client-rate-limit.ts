import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import type { Principal } from '@platform/request-context';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter } from 'prom-client';
import { rateLimited, rateLimitHeaders } from './budget';
import { CallCounter } from './call-counter';

/** Limits a client's calls per minute, in a fixed window that begins with its first call. docs/adr/0013 says why. */
@Injectable()
export class ClientRateLimit {
  private readonly overrides: ReadonlyMap<string, number>;
  private readonly perMinute: number;

  constructor(
    @Inject(CONFIG) config: Config,
    private readonly counter: CallCounter,
    @InjectMetric('rate_limited_total') private readonly refusals: Counter<'limit'>,
  ) {
    this.overrides = new Map(config.rateLimit.overrides);
    this.perMinute = config.rateLimit.perMinute;
  }

  /**
   * Counts a call of the client.
   * @returns rate limit headers for the response, whatever its status; empty if the client is not limited
   * @throws {ServiceError} RATE_LIMITED
   */
  async admit({ clientId, tenantId }: Principal): Promise<Record<string, string>> {
    const quota = this.overrides.get(clientId) ?? this.perMinute;
    if (quota === 0) return {};
    // Client ids are unique only within a tenant. Neither name can contain the separator, a control character.
    const { calls, resetMs } = await this.counter.count(`${tenantId}\n${clientId}`);
    const budget = { policy: 'client', quota, remaining: Math.max(quota - calls, 0), resetMs } as const;
    if (calls <= quota) return rateLimitHeaders(budget);
    this.refusals.inc({ limit: 'client' });
    throw rateLimited(budget);
  }
}
