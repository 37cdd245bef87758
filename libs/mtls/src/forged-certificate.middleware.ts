import type { RequestHandler } from 'express';
import type { TrustedProxies } from './trusted-proxies';

/** Removes the client certificate header from requests that no trusted proxy forwards, so that nothing believes it. */
export function dropForgedCertificates(proxies: TrustedProxies, header: string | undefined): RequestHandler {
  return (req, _res, next) => {
    if (header !== undefined && header in req.headers && !proxies.has(req.socket.remoteAddress)) {
      delete req.headers[header];
      // Before `rawHeaders` changes: Node derives `headersDistinct` from it lazily, and remembers its length.
      delete req.headersDistinct[header];
      req.rawHeaders = req.rawHeaders.filter((_, i, raw) => raw[i - (i % 2)]?.toLowerCase() !== header);
    }
    next();
  };
}
