import { type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Logger } from '@nestjs/common';
import { newContext, runInContext } from '@platform/request-context';
import { errorResponse } from './error-response';
import { ServiceError } from './service-error';

const logger = new Logger('http');

/** How long the client has to read the response before the socket is closed. */
const READ_WITHIN_MS = 1_000;

/**
 * Answers what Node's HTTP parser rejects, in the shape of all other errors. If the request's headers had arrived, its
 * id and its preferred shape are known.
 */
export function answerClientErrors(server: Server): void {
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    // No response after a failed handshake: it would wait in an open connection for the client to send something.
    if (/^(ERR_SSL_|ERR_TLS_|EPROTO)/.test(error.code ?? '')) {
      logger.debug({ code: error.code }, 'TLS handshake failed');
      socket.destroy();
      return;
    }
    // Like Node's default: there is nothing to send if the connection is gone or in the middle of a response.
    const { _httpMessage: response } = socket as { _httpMessage?: ServerResponse };
    if (error.code === 'ECONNRESET' || !socket.writable || response?.headersSent) {
      socket.destroy();
      return;
    }
    refuse(socket, toRefusal(error.code), response);
  });
  // CONNECT asks for a tunnel. By default Node closes the connection without a response.
  server.on('connect', (_request, socket) => {
    socket.on('error', () => undefined);
    refuse(socket, new ServiceError('ROUTE_NOT_FOUND', 'The service is not a proxy: it does not answer CONNECT'));
  });
}

function refuse(socket: Duplex, refusal: ServiceError, response?: ServerResponse): void {
  const context = newContext({ requestId: response?.getHeader('X-Request-Id')?.toString() });
  const { requestId } = context;
  const line = { statusCode: refusal.status, code: refusal.code };
  runInContext(context, () => logger.warn(line, 'Request refused before it was read'));
  const { type, body } = errorResponse(refusal, requestId, response?.req);
  // A client may never close its side, and Node applies no timeouts to the sockets of CONNECT.
  setTimeout(() => socket.destroy(), READ_WITHIN_MS).unref();
  socket.resume(); // with unread input, closing would send a reset, and the client could lose the response
  socket.end(
    [
      `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}`,
      `Content-Type: ${type}; charset=utf-8`,
      `Content-Length: ${Buffer.byteLength(body)}`,
      `X-Request-Id: ${requestId}`,
      'Connection: close',
      '',
      body,
    ].join('\r\n'),
  );
}

function toRefusal(code: string | undefined): ServiceError {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new ServiceError('HEADERS_TOO_LARGE', 'The request headers are too large');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ServiceError('REQUEST_TIMEOUT', 'The request did not arrive in time');
    default:
      return new ServiceError('MALFORMED_REQUEST', 'The request cannot be understood');
  }
}
