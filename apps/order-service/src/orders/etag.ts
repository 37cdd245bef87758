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
  const named: string[] = header.match(/(?<![^\s,])(?:W\/)?"[^"]*"/g) ?? [];
  return !named.some((tag) => tag.replace(/^W\//, '') === etag);
}
