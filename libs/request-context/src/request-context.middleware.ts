import type { NextFunction, Request, Response } from 'express';
import { clientAddress } from './client-address';
import { newContext, runInContext } from './request-context';

/** Creates the context of an HTTP request and sets `X-Request-Id` on the response. Runs before all that logs. */
export function requestContextMiddleware(req: Request, res: Response, next: NextFunction): void {
  const context = newContext({ requestId: req.get('x-request-id'), traceparent: req.get('traceparent') });
  const peer = req.socket.remoteAddress;
  context.address = 'x-forwarded-for' in req.headers ? clientAddress(req.ip, peer) : peer;
  res.setHeader('X-Request-Id', context.requestId);
  runInContext(context, next);
}
