import type { OutboundSettings } from '@platform/config';

/**
 * The pause before the next attempt, in milliseconds: the `Retry-After` of the dependency plus exponential backoff with
 * full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that callers who failed
 * together do not come back together.
 * @param failures number of attempts that have failed
 */
export function retryPauseMs(
  failures: number,
  { backoffMs, backoffMaxMs }: Pick<OutboundSettings, 'backoffMs' | 'backoffMaxMs'>,
  retryAfterMs = 0,
): number {
  return retryAfterMs + Math.random() * Math.min(backoffMaxMs, backoffMs * 2 ** (failures - 1));
}

/**
 * Reads a `Retry-After` header: seconds or a date (RFC 9110 section 10.2.3).
 * @returns milliseconds from now; undefined if it is missing or neither
 */
export function parseRetryAfter(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d+$/.test(header)) return Number(header) * 1_000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}
