import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { ServiceError } from '@platform/errors';
import { FOR_OPERATORS } from '@platform/observability';
import { json, type Request, type Response } from 'express';

export const BODY_BYTES = 256 * 1024;
/** A body that is too long is taken in up to here, for clients that listen only when they have sent all of it. */
const REFUSED_BODY_BYTES = 16 * 1024 * 1024;

/**
 * For requests that began before their bodies had come: to be asked once they have. False when there is no place for their
 * work.
 */
export const lateAdmissions = new WeakMap<IncomingMessage, () => boolean>();

const parse = json({
  limit: BODY_BYTES,
  type: () => true,
  verify: (_req, _res, bytes, encoding) => {
    // body-parser takes UTF-16 and UTF-32 too, which whoever looks at requests before us may read as something else.
    if (encoding !== 'utf-8') throw Object.assign(new Error('Not UTF-8'), { type: 'charset.unsupported' });
    // The decoder would put U+FFFD in the place of what is no UTF-8.
    if (!isUtf8(bytes)) throw new Error('The request body is not UTF-8');
  },
});

/**
 * Reads JSON bodies and refuses all others, each fault with a code of its own. The last of the guards: nobody makes us
 * read a body who may not call the route. An interceptor would do too, and cost each request 50 µs of RxJS.
 */
@Injectable()
export class JsonBodyGuard implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    if (context.getType() !== 'http') return true;
    const http = context.switchToHttp();
    const req = http.getRequest<Request>();
    if (FOR_OPERATORS.test(req.url)) return true; // who may call them is not known, and nobody counts them
    await readBody(req, http.getResponse<Response>());
    if (lateAdmissions.get(req)?.() === false) throw ServiceError.unavailable(new Error('Too many requests at once'));
    return true;
  }
}

async function readBody(req: Request, res: Response): Promise<void> {
  // body-parser would take a request that was given up for one without a body.
  if (res.destroyed) throw new ServiceError('MALFORMED_REQUEST', 'The request was given up');
  if (readWhole(req)) return;
  const length = Number(req.get('content-length'));
  const isChunked = req.headers['transfer-encoding'] !== undefined;
  const mayBeEmpty = length === 0 || (isChunked && req.headers['content-type'] === undefined);
  // `is` gives null where there is no body, but takes for one what may be empty.
  if (!mayBeEmpty && req.is('application/json') === false) throw notJson();
  // body-parser would first read it all.
  if (length > BODY_BYTES) throw tooLarge(undefined, length > REFUSED_BODY_BYTES);
  await new Promise<void>((resolve, reject) => {
    // Of chunks nobody knows the end, and body-parser waits for it even when it has had enough.
    if (isChunked) {
      let received = 0;
      req.on('data', (chunk: Buffer) => {
        received += chunk.length;
        if (mayBeEmpty) reject(notJson());
        if (received > BODY_BYTES) reject(tooLarge());
      });
    }
    parse(req, res, (error?: unknown) =>
      error === undefined || isOfNull(error) ? resolve() : reject(refusalOf(error)),
    );
  });
}

/** So clients of some generators send that there is no body. */
const isOfNull = (error: unknown) => (error as { body?: unknown }).body === 'null';

const OPENING_BRACE = 0x7b;

/**
 * Nearly every body is a JSON object that has come with its headers. It lies there as a whole, so nobody has to listen for
 * its parts, which takes as long as to parse it. All else, and what is wrong, is left as it is for body-parser.
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
      // body-parser says what is wrong
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

/** body-parser tells its faults apart by `type`; what has none went wrong in the connection. */
function refusalOf(cause: unknown): ServiceError {
  switch ((cause as { type?: string }).type) {
    case 'entity.too.large':
      return tooLarge(cause);
    case 'charset.unsupported':
    case 'encoding.unsupported':
      return new ServiceError('UNSUPPORTED_MEDIA_TYPE', 'The encoding of the request body is not supported', { cause });
    case 'entity.parse.failed':
    case 'entity.verify.failed':
      return new ServiceError('MALFORMED_JSON', 'The request body is not a JSON object in UTF-8', { cause });
    default:
      return new ServiceError('MALFORMED_REQUEST', 'The request body cannot be read', { cause });
  }
}
