import type { ServiceError } from '@platform/errors';
import { currentContext, orderIdOf, runInContext } from '@platform/request-context';
import type { RequestHandler } from 'express';
import { auditRow } from './audit-row';
import { RefusalLog } from './refusal-log';

/**
 * The statuses that are recorded. 404 is one of them: the object may exist but be another tenant's, which must not even
 * be looked up. A request that matches no route is not recorded, because it has no action.
 */
const RECORDED = new Set([401, 403, 404, 409, 412, 429]);

/**
 * Records every call that was refused because of its caller or of the state of what it was to change. Triggered by the
 * error filter, not by the end of the response: a client that hangs up gets no response, but was refused all the same.
 */
export function auditRefusals(log: RefusalLog): RequestHandler {
  return (req, res, next) => {
    const context = currentContext();
    res.once('refused', ({ code, status }: ServiceError) => {
      if (!context?.action || !RECORDED.has(status)) return;
      // Only what has the form of an order id is taken from the request: the trail must not hold personal data.
      const object = orderIdOf(req.params['orderId']);
      runInContext(context, () =>
        log.add(auditRow({ object, outcome: 'refused', statusCode: status, errorCode: code })),
      );
    });
    next();
  };
}
