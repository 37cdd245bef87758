import type { ServiceError } from '@platform/errors';
import { currentContext, orderIdOf, runInContext } from '@platform/request-context';
import type { RequestHandler } from 'express';
import { auditRow } from './audit-row';
import { RefusalLog } from './refusal-log';

/** 404 is of a thing that is perhaps somebody else's: whether it is must not even be asked. A route that is none has no action. */
const RECORDED = new Set([401, 403, 404, 409, 412, 429]);

/**
 * Writes down every call that was refused for who calls, or for the state of what it was to change. The error filter says
 * so, and not the end of the answer: a client that hangs up has none, and was refused all the same.
 */
export function auditRefusals(log: RefusalLog): RequestHandler {
  return (req, res, next) => {
    const context = currentContext();
    res.once('refused', ({ code, status }: ServiceError) => {
      if (!context?.action || !RECORDED.has(status)) return;
      // Of what the client sent, only what has the form of an id: the trail must not hold personal data.
      const object = orderIdOf(String(req.params['orderId'] ?? ''));
      runInContext(context, () =>
        log.add(auditRow({ object, outcome: 'refused', statusCode: status, errorCode: code })),
      );
    });
    next();
  };
}
