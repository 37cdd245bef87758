import { ServiceError } from '@platform/errors';

export const WINDOW_SECONDS = 60;

/** What is left of a quota of calls in the window that runs now. */
export interface Budget {
  /** What the quota is counted for, and the name of its policy in the headers. */
  readonly policy: 'client' | 'address';
  /** Calls in a window. */
  readonly quota: number;
  readonly remaining: number;
  /** Milliseconds until the window ends: then the whole quota is there again. */
  readonly resetMs: number;
}

/** Rounded up, so that who waits that long comes into the next window. Never beyond a window, if the clock is set back. */
const secondsUntilReset = ({ resetMs }: Budget) => Math.min(Math.max(Math.ceil(resetMs / 1_000), 1), WINDOW_SECONDS);

/** `RateLimit-Policy` and `RateLimit` as draft-ietf-httpapi-ratelimit-headers-11 writes them: lists of RFC 9651. */
export function rateLimitHeaders(budget: Budget): Record<string, string> {
  return {
    'RateLimit-Policy': `"${budget.policy}";q=${budget.quota};w=${WINDOW_SECONDS}`,
    RateLimit: `"${budget.policy}";r=${budget.remaining};t=${secondsUntilReset(budget)}`,
  };
}

/** The refusal of a call for which nothing is left. */
export function rateLimited(budget: Budget): ServiceError {
  return new ServiceError('RATE_LIMITED', 'Too many calls; try again after the seconds that Retry-After says', {
    headers: { ...rateLimitHeaders(budget), 'Retry-After': String(secondsUntilReset(budget)) },
  });
}
