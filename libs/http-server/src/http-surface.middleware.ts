import { ServiceError } from '@platform/errors';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import helmet from 'helmet';

const MAX_HEADERS = 100;

/** Answers are read by programs: nothing in them is to be shown, run, framed or guessed at. */
export const API_HEADERS = headersOf(
  helmet({
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
    frameguard: { action: 'deny' },
    // For what browsers do with pages and plug-ins; or sent by `strictTransportSecurity` below.
    crossOriginOpenerPolicy: false,
    originAgentCluster: false,
    dnsPrefetchControl: false,
    ieNoOpen: false,
    permittedCrossDomainPolicies: false,
    strictTransportSecurity: false,
    xXssProtection: false,
  }),
);

const strictTransportSecurity = helmet.strictTransportSecurity({ maxAge: 365 * 86_400, includeSubDomains: false });

/** Swagger's page has styles and images within it, fetches tokens and calls the API; its scripts are files of ours. */
const docsPolicy = helmet.contentSecurityPolicy({
  useDefaults: false,
  directives: {
    defaultSrc: ["'none'"],
    scriptSrc: ["'self'"],
    styleSrc: ["'self'", "'unsafe-inline'"],
    imgSrc: ["'self'", 'data:'],
    connectSrc: ["'self'"],
    baseUri: ["'none'"],
    formAction: ["'none'"],
    frameAncestors: ["'none'"],
  },
});

/** Runs a middleware once, against an answer that is none, and keeps the headers that it sets: they are always the same. */
function headersOf(middleware: ReturnType<typeof helmet>): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {};
  const setHeader = (name: string, value: string) => (headers[name] = value);
  middleware({} as Request, { setHeader, removeHeader: () => undefined } as unknown as Response, () => undefined);
  return headers;
}

function apiHeaders(_req: Request, res: Response, next: NextFunction): void {
  for (const name in API_HEADERS) res.setHeader(name, API_HEADERS[name]!);
  next();
}

/** HSTS says nothing over a connection that is not secure, and must not be sent there (RFC 6797 section 7.2). */
function hstsWhereSecure(req: Request, res: Response, next: NextFunction): void {
  if (req.secure) strictTransportSecurity(req, res, next);
  else next();
}

/** Node would drop the headers beyond its own count without a word, `Authorization` perhaps among them. */
function refuseManyHeaders(req: Request, _res: Response, next: NextFunction): void {
  const isWithinLimit = req.rawHeaders.length <= 2 * MAX_HEADERS;
  next(isWithinLimit ? undefined : new ServiceError('HEADERS_TOO_LARGE', `More than ${MAX_HEADERS} request headers`));
}

/** Of several of these Node takes the first; whoever stands before us may have judged the last. */
const ONCE = ['Host', 'Authorization', 'Content-Type'].map((name) => ({ name, key: name.toLowerCase() }));

/** RFC 9112 section 3.2, RFC 9110 section 5.3. */
function refuseAmbiguous({ rawHeaders, headers, httpVersion }: Request, _res: Response, next: NextFunction): void {
  for (const { name, key } of ONCE) {
    let count = 0;
    for (let at = 0; at < rawHeaders.length; at += 2) {
      const given = rawHeaders[at]!;
      if (given.length === key.length && given.toLowerCase() === key) count += 1;
    }
    if (count > 1) return next(ambiguous(`more than one ${name}`));
  }
  next(headers.host === undefined && httpVersion !== '1.0' ? ambiguous('no Host') : undefined);
}

const ambiguous = (what: string) =>
  new ServiceError('MALFORMED_REQUEST', `The request has ${what} header`, { headers: { Connection: 'close' } });

/** What each answer says to browsers and caches, and each request must keep to, whatever its route. */
export const httpSurface: RequestHandler[] = [apiHeaders, hstsWhereSecure, refuseManyHeaders, refuseAmbiguous];

/** Stands after {@link httpSurface}, on the path of the Swagger page. */
export const docsSurface: RequestHandler = docsPolicy;
