/** The moment that a UUIDv7 carries (RFC 9562 section 5.7), which is when it was made. */
export function momentOf(uuid: string): Date {
  return new Date(Number.parseInt(uuid.replaceAll('-', '').slice(0, 12), 16));
}

/** The smallest UUIDv7 of a moment (RFC 9562 section 5.7), so that ranges of time are ranges of ids. */
export function firstUuidOf(moment: Date): string {
  const hex = Math.max(0, moment.getTime()).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
}

/** Where the ids begin that were made at an instant or later. @param timestamp RFC 3339, of any precision */
export function idsFrom(timestamp: string): string {
  return firstUuidOf(nextMillisecond(timestamp, 0));
}

/** Where the ids begin that were made later than an instant. @param timestamp RFC 3339, of any precision */
export function idsAfter(timestamp: string): string {
  return firstUuidOf(nextMillisecond(timestamp, 1));
}

/** The first millisecond at or after an instant, which may be finer than milliseconds; for one that is not, `step` later. */
function nextMillisecond(timestamp: string, step: 0 | 1): Date {
  const isFiner = /\.\d{3}\d*[1-9]/.test(timestamp);
  return new Date(Date.parse(timestamp) + (isFiner ? 1 : step));
}
