/** The ETag of a version of an order. */
export const etagOf = (version: number) => `"${version}"`;

/**
 * Whether the order is to be sent, because `If-None-Match` does not name this ETag; compared weakly as RFC 9110 section
 * 13.1.2 says. Express' own check does not serve: it takes the `Cache-Control: no-cache` that fetch sends along as a wish
 * to have the body.
 */
export function matchesNone(header: string | undefined, etag: string): boolean {
  if (header === undefined) return true;
  if (header.trim() === '*') return false;
  return !tagsIn(header).some((tag) => tag.replace(/^W\//, '') === etag);
}

/**
 * Whether the order may be changed, because `If-Match` is absent or names this ETag; compared strongly as RFC 9110
 * section 13.1.1 says, so that a weak tag never matches.
 */
export function matchesAny(header: string | undefined, etag: string): boolean {
  return header === undefined || header.trim() === '*' || tagsIn(header).includes(etag);
}

const tagsIn = (header: string): string[] => header.match(/(?<![^\s,])(?:W\/)?"[^"]*"/g) ?? [];
