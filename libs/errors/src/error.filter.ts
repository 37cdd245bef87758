import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException, Logger } from '@nestjs/common';
import type { Request, Response } from 'express';
import type { ILayer } from 'express-serve-static-core';
import { errorResponse } from './error-response';
import { KnownCauses } from './known-causes';
import { ServiceError } from './service-error';

/** Turns whatever an HTTP request threw into the API's error shape. Nothing of the cause is shown to the client. */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  private readonly logger = new Logger(ErrorFilter.name);
  private readonly knownCauses = new KnownCauses();

  catch(thrown: unknown, host: ArgumentsHost): void {
    const req = host.switchToHttp().getRequest<Request>();
    const res = host.switchToHttp().getResponse<Response>();
    const error = toServiceError(thrown, req);
    const requestId = String(res.getHeader('X-Request-Id'));

    this.log(error);
    res.locals['errorCode'] = error.code;
    res.emit('refused', error); // the audit trail listens for it

    if (res.headersSent) {
      res.destroy();
      return;
    }
    res.status(error.status).set('Cache-Control', 'no-store').set(error.headers).vary('Accept');
    const { type, body } = errorResponse(error, requestId, req);
    res.type(type).send(body);
  }

  /** Besides, each request is logged once when it ends, with the code. */
  private log(error: ServiceError): void {
    const { code, message, cause = error } = error;
    if (error.status < 500) this.logger.debug({ code }, message);
    else if (!ServiceError.isUnavailable(error) || this.knownCauses.isNew(cause))
      this.logger.error({ err: cause, code }, message);
  }
}

function toServiceError(thrown: unknown, req: Request): ServiceError {
  if (thrown instanceof ServiceError) return thrown;
  if (thrown instanceof HttpException && thrown.getStatus() === 404) {
    const allowed = allowedMethods(req);
    // If there is a route, its handler threw the 404: the client must not be sent looking for its own mistake.
    if (!allowed.includes(req.method)) return noRoute(allowed);
  }
  // Nest wraps the URIError of a path that is not valid percent-encoding (`/v1/orders/%zz`).
  if (thrown instanceof HttpException && thrown.getStatus() === 400) {
    return new ServiceError('MALFORMED_REQUEST', 'The request cannot be understood', { cause: thrown });
  }
  return new ServiceError('INTERNAL_ERROR', 'The service failed to answer', { cause: thrown });
}

function noRoute(allowed: readonly string[]): ServiceError {
  if (allowed.length === 0) return new ServiceError('ROUTE_NOT_FOUND', 'There is no such route');
  return new ServiceError('METHOD_NOT_ALLOWED', 'The route does not answer this method', {
    headers: { Allow: allowed.join(', ') },
  });
}

/**
 * The methods that the request's path has routes for. Express answers 404 also if only the method does not match.
 * `req.route` cannot tell: for HEAD it is set even if the path has only POST.
 */
function allowedMethods(req: Request): string[] {
  const methods = new Set<string>();
  for (const layer of req.app.router.stack as (ILayer & { match?(path: string): boolean })[]) {
    if (!layer.route || !layer.match?.(req.path)) continue;
    for (const { method } of layer.route.stack) methods.add(method.toUpperCase());
  }
  if (methods.has('GET')) methods.add('HEAD');
  return [...methods].sort();
}
