import { ServiceError } from '@platform/errors';

export const WINDOW_SECONDS = 60;

/** What is left of a quota in the current window. */
export interface Budget {
  /** What calls are counted by; also the policy's name in the headers. */
  readonly policy: 'client' | 'address';
  /** Calls per window. */
  readonly quota: number;
  readonly remaining: number;
  /** Milliseconds until the window ends and the full quota is available again. */
  readonly resetMs: number;
}

/** Rounded up: a client that waits this long is in the next window. At most a window, if the clock was set back. */
const secondsUntilReset = ({ resetMs }: Budget) => Math.min(Math.max(Math.ceil(resetMs / 1_000), 1), WINDOW_SECONDS);

/** The headers of draft-ietf-httpapi-ratelimit-headers-11, whose values are lists of RFC 9651. */
export function rateLimitHeaders(budget: Budget): Record<string, string> {
  return {
    'RateLimit-Policy': `"${budget.policy}";q=${budget.quota};w=${WINDOW_SECONDS}`,
    RateLimit: `"${budget.policy}";r=${budget.remaining};t=${secondsUntilReset(budget)}`,
  };
}

/** The refusal of a call beyond the quota. */
export function rateLimited(budget: Budget): ServiceError {
  return new ServiceError('RATE_LIMITED', 'Too many calls; try again after the seconds that Retry-After says', {
    headers: { ...rateLimitHeaders(budget), 'Retry-After': String(secondsUntilReset(budget)) },
  });
}
