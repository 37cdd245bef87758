import { type IncomingMessage, STATUS_CODES } from 'node:http';
import { type Request, request } from 'express';
import type { ServiceError } from './service-error';

export const PROBLEM = 'application/problem+json';
/** JSON first: clients that accept anything get the ordinary shape. Media type parameters must match too. */
const SHAPES = ['application/json', PROBLEM, `${PROBLEM}; charset=utf-8`];

/** Weighing what a client accepts takes time for each entry, and anybody may send 16 KB of them. */
const MAX_ACCEPT_LENGTH = 512;

/**
 * Whether the client prefers problem details. The request need not have come to Express.
 * @returns false also when the client accepts more than 512 characters of types
 */
export function wantsProblem({ headers }: IncomingMessage): boolean {
  if ((headers.accept?.length ?? 0) > MAX_ACCEPT_LENGTH) return false;
  const req = Object.create(request, { headers: { value: headers } }) as Request;
  return String(req.accepts(SHAPES)).startsWith(PROBLEM);
}

/** The error shape of the guide's section 4.4. */
export function errorBody(error: ServiceError, correlationId: string) {
  return { error: { code: error.code, message: error.message, details: error.details, correlationId } };
}

/** The same as RFC 9457 problem details, with `code`, `errors` and `correlationId` as extension members. */
export function problemBody(error: ServiceError, correlationId: string, instance: string) {
  return {
    type: `urn:order-a2a:problem:${error.code.toLowerCase().replaceAll('_', '-')}`,
    title: STATUS_CODES[error.status],
    status: error.status,
    detail: error.message,
    instance,
    code: error.code,
    errors: error.details,
    correlationId,
  };
}

/** The response to `req` in the shape that the client prefers; in the ordinary one if there is no request. */
export function errorResponse(error: ServiceError, correlationId: string, req: IncomingMessage | undefined) {
  return req && wantsProblem(req)
    ? { type: PROBLEM, body: JSON.stringify(problemBody(error, correlationId, req.url!.split('?', 1)[0]!)) }
    : { type: 'application/json', body: JSON.stringify(errorBody(error, correlationId)) };
}
