/** The ETag of a version of an order. */
export const etagOf = (version: number) => `"${version}"`;

/**
 * Whether the order is to be sent, because `If-None-Match` is absent or does not name this ETag (weak comparison, RFC
 * 9110 section 13.1.2). Express's own check is not used: it always sends the body when the request has
 * `Cache-Control: no-cache`, which fetch adds to conditional requests.
 */
export function matchesNone(header: string | undefined, etag: string): boolean {
  if (header === undefined) return true;
  if (header.trim() === '*') return false;
  return !tagsIn(header).some((tag) => tag.replace(/^W\//, '') === etag);
}

/**
 * Whether the order may be changed, because `If-Match` is absent or names this ETag (strong comparison, RFC 9110
 * section 13.1.1: a weak tag never matches).
 */
export function matchesAny(header: string | undefined, etag: string): boolean {
  return header === undefined || header.trim() === '*' || tagsIn(header).includes(etag);
}

const tagsIn = (header: string): string[] => header.match(/(?<![^\s,])(?:W\/)?"[^"]*"/g) ?? [];
