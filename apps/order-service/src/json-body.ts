import { ServiceError } from '@platform/errors';
import { json, type RequestHandler } from 'express';

const BODY_BYTES = 256 * 1024;

const parse = json({ limit: BODY_BYTES, type: () => true });

/** Reads JSON bodies and refuses all others, each fault with a code of its own. */
export const jsonBody: RequestHandler = (req, res, next) => {
  // `is` gives null where there is no body, but takes a length of 0 for one.
  if (req.get('content-length') !== '0' && req.is('application/json') === false) {
    next(new ServiceError('UNSUPPORTED_MEDIA_TYPE', 'The request body must be application/json'));
    return;
  }
  parse(req, res, (error?: unknown) => next(error === undefined ? undefined : refusalOf(error)));
};

/** body-parser tells its faults apart by `type`; what has none went wrong in the connection. */
function refusalOf(error: unknown): ServiceError {
  const { type } = error as { type?: string };
  switch (type) {
    case 'entity.too.large':
      return new ServiceError('PAYLOAD_TOO_LARGE', `The request body exceeds ${BODY_BYTES} bytes`, { cause: error });
    case 'charset.unsupported':
    case 'encoding.unsupported':
      return new ServiceError('UNSUPPORTED_MEDIA_TYPE', 'The encoding of the request body is not supported', {
        cause: error,
      });
    case 'entity.parse.failed':
      return new ServiceError('MALFORMED_JSON', 'The request body is not valid JSON', { cause: error });
    default:
      return new ServiceError('MALFORMED_REQUEST', 'The request body cannot be read', { cause: error });
  }
}
