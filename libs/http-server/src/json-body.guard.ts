import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { ServiceError } from '@platform/errors';
import { OPERATIONAL_PATHS } from '@platform/observability';
import { json, type Request, type Response } from 'express';

export const BODY_BYTES = 256 * 1024;
/** Up to this size a body that is too long is still read, for clients that read responses only after sending it all. */
const REFUSED_BODY_BYTES = 16 * 1024 * 1024;

/**
 * For requests that were started before their bodies had arrived: to be called once the body is there. Returns false if
 * there is no capacity for the request.
 */
export const lateAdmissions = new WeakMap<IncomingMessage, () => boolean>();

const parse = json({
  limit: BODY_BYTES,
  type: () => true,
  strict: false, // JSON that is not an object is refused by the pipe, like a field of a wrong type
  verify: (_req, _res, bytes, encoding) => {
    // body-parser also accepts UTF-16 and UTF-32, which a proxy that inspects requests may read as something else.
    if (encoding !== 'utf-8') throw Object.assign(new Error('Not UTF-8'), { type: 'charset.unsupported' });
    // The decoder would silently replace invalid bytes by U+FFFD.
    if (!isUtf8(bytes)) throw new Error('The request body is not UTF-8');
  },
});

/**
 * Reads JSON bodies and refuses all others, with an error code for each fault. Runs as the last guard, so that only
 * callers who may use the route can make us read a body. An interceptor would cost each request 50 µs of RxJS.
 */
@Injectable()
export class JsonBodyGuard implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    if (context.getType() !== 'http') return true;
    const http = context.switchToHttp();
    const req = http.getRequest<Request>();
    if (OPERATIONAL_PATHS.test(req.url)) return true; // their callers are not authenticated and not limited
    await readBody(req, http.getResponse<Response>());
    if (lateAdmissions.get(req)?.() === false) throw ServiceError.unavailable(new Error('Too many requests at once'));
    return true;
  }
}

async function readBody(req: Request, res: Response): Promise<void> {
  // body-parser would treat an aborted request as one without a body.
  if (res.destroyed) throw new ServiceError('MALFORMED_REQUEST', 'The request was aborted');
  if (readWhole(req)) return;
  const length = Number(req.get('content-length'));
  const isChunked = req.headers['transfer-encoding'] !== undefined;
  const mayBeEmpty = length === 0 || (isChunked && req.headers['content-type'] === undefined);
  // `is` returns null without a body, but counts every body that may be empty as one.
  if (!mayBeEmpty && req.is('application/json') === false) throw notJson();
  // body-parser would read all of it first.
  if (length > BODY_BYTES) throw tooLarge(undefined, length > REFUSED_BODY_BYTES);
  await new Promise<void>((resolve, reject) => {
    // The length of chunks is not known, and body-parser waits for their end even after the limit is exceeded.
    if (isChunked) {
      let received = 0;
      req.on('data', (chunk: Buffer) => {
        received += chunk.length;
        if (mayBeEmpty) reject(notJson());
        if (received > BODY_BYTES) reject(tooLarge());
      });
    }
    parse(req, res, (error?: unknown) => (error === undefined ? resolve() : reject(refusalOf(error))));
  });
}

const OPENING_BRACE = 0x7b;

/**
 * Fast path: nearly every body is a JSON object that arrived with its headers. Reading it at once saves listening for
 * chunks, which takes as long as parsing it. Everything else, and every fault, is left to body-parser.
 */
function readWhole(req: Request): boolean {
  const { 'content-type': type, 'content-encoding': encoding, 'transfer-encoding': chunks } = req.headers;
  if (!req.complete || type !== 'application/json' || encoding !== undefined || chunks !== undefined) return false;
  const bytes = req.read() as Buffer | null;
  if (bytes === null) return false;
  if (bytes[0] === OPENING_BRACE && isUtf8(bytes)) {
    try {
      req.body = JSON.parse(bytes.toString()) as unknown;
      return true;
    } catch {
      // body-parser reports the fault
    }
  }
  req.unshift(bytes);
  return false;
}

const notJson = () => new ServiceError('UNSUPPORTED_MEDIA_TYPE', 'The request body must be application/json');

const tooLarge = (cause?: unknown, isLast = true) =>
  new ServiceError('PAYLOAD_TOO_LARGE', `The request body exceeds ${BODY_BYTES} bytes`, {
    headers: isLast ? { Connection: 'close' } : {},
    cause,
  });

/** Errors of body-parser have a `type`. An error without one comes from the connection. */
function refusalOf(cause: unknown): ServiceError {
  switch ((cause as { type?: string }).type) {
    case 'entity.too.large':
      return tooLarge(cause);
    case 'charset.unsupported':
    case 'encoding.unsupported':
      return new ServiceError('UNSUPPORTED_MEDIA_TYPE', 'The encoding of the request body is not supported', { cause });
    case 'entity.parse.failed':
    case 'entity.verify.failed':
      return new ServiceError('MALFORMED_JSON', 'The request body is not JSON in UTF-8', { cause });
    default:
      return new ServiceError('MALFORMED_REQUEST', 'The request body cannot be read', { cause });
  }
}
