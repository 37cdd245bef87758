import type { RequestHandler } from 'express';
import type { TrustedProxies } from './trusted-proxies';

/** Takes the header of client certificates off what comes from anyone but a trusted proxy, so that nobody believes it. */
export function dropForgedCertificates(proxies: TrustedProxies, header: string | undefined): RequestHandler {
  return (req, _res, next) => {
    if (header !== undefined && header in req.headers && !proxies.has(req.socket.remoteAddress)) {
      delete req.headers[header];
      // Before the next line: Node makes these of the raw headers, whose number it remembers.
      delete req.headersDistinct[header];
      req.rawHeaders = req.rawHeaders.filter((_, i, raw) => raw[i - (i % 2)]?.toLowerCase() !== header);
    }
    next();
  };
}
