import type { IncomingMessage } from 'node:http';

const malformed = new WeakSet<IncomingMessage>();

/**
 * Brings a request's target into the form that all rules by path expect: a path, perhaps with a query. It may also come
 * as a whole URI (RFC 9112 section 3.2.2). A fragment is not allowed in it; Express would take `/a\#` for `/a/`.
 */
export function normalizeTarget(req: IncomingMessage): void {
  const { url = '' } = req;
  const isWhole = !url.includes('#');
  if (isWhole && (url.startsWith('/') || url === '*')) return;
  const uri = isWhole && /^https?:/i.test(url) ? URL.parse(url) : null;
  if (!uri) malformed.add(req);
  req.url = uri ? uri.pathname + uri.search : '/';
}

export const hasMalformedTarget = (req: IncomingMessage) => malformed.has(req);
