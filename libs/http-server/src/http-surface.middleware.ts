import { ServiceError } from '@platform/errors';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import helmet from 'helmet';
import { hasMalformedTarget } from './request-target';

const MAX_HEADERS = 100;

/** Responses are for programs: browsers shall not render, run, frame or sniff them. */
export const API_HEADERS = headersOf(
  helmet({
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
    frameguard: { action: 'deny' },
    // Only about pages and plug-ins in browsers; or set by `strictTransportSecurity` below.
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

/** Swagger's page has inline styles and images, fetches tokens and calls the API; its scripts are our files. */
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

/** Runs a middleware once against a fake response and returns the headers that it sets: they are always the same. */
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

/** HSTS has no effect over plain HTTP, and must not be sent there (RFC 6797 section 7.2). */
function hstsWhereSecure(req: Request, res: Response, next: NextFunction): void {
  if (req.secure) strictTransportSecurity(req, res, next);
  else next();
}

function refuseMalformedTarget(req: Request, _res: Response, next: NextFunction): void {
  const isMalformed = hasMalformedTarget(req);
  next(
    isMalformed ? new ServiceError('MALFORMED_REQUEST', 'The request target is neither a path nor a URI') : undefined,
  );
}

/** Beyond its own limit Node drops headers silently, perhaps `Authorization` among them. */
function refuseManyHeaders(req: Request, _res: Response, next: NextFunction): void {
  const isWithinLimit = req.rawHeaders.length <= 2 * MAX_HEADERS;
  next(
    isWithinLimit
      ? undefined
      : new ServiceError('HEADERS_TOO_LARGE', `The request has more than ${MAX_HEADERS} headers`),
  );
}

/** Headers that may occur once. Node uses the first; a proxy in front of us may have checked the last. */
const SINGLETON_HEADERS = ['Host', 'Authorization', 'Content-Type'].map((name) => ({ name, key: name.toLowerCase() }));

/** RFC 9112 section 3.2, RFC 9110 section 5.3. */
function refuseAmbiguous({ rawHeaders, headers, httpVersion }: Request, _res: Response, next: NextFunction): void {
  for (const { name, key } of SINGLETON_HEADERS) {
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

/** Headers of every response, and rules for every request, whatever its route. */
export const httpSurface: RequestHandler[] = [
  apiHeaders,
  hstsWhereSecure,
  refuseMalformedTarget,
  refuseManyHeaders,
  refuseAmbiguous,
];

/**
 * Files are served only whole and unconditionally: for a range or a condition that cannot be met, the file server
 * throws what would look like a failure of ours, and so does Swagger's route for a licence file that does not exist.
 */
function wholeFiles(req: Request, _res: Response, next: NextFunction): void {
  for (const name of ['range', 'if-match', 'if-unmodified-since']) delete req.headers[name];
  next(req.path === '/LICENSE' ? new ServiceError('ROUTE_NOT_FOUND', 'There is no such route') : undefined);
}

/** Runs after {@link httpSurface}, on the path of the Swagger page. */
export const docsSurface: RequestHandler[] = [docsPolicy, wholeFiles];
