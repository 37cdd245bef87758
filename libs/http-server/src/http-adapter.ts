import { createServer, IncomingMessage, type Server, ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { NestApplicationOptions } from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import type { Express } from 'express';

/** How often Node looks for overdue requests. Its default of 30 s would let headers take four times their limit. */
const TIMEOUT_CHECK_MS = 1_000;

/**
 * Length of the kernel's accept queue, unless `net.core.somaxconn` is less. If thousands of clients connect at once, as
 * after a release, those beyond Node's default of 511 would be dropped silently and retry after 1, 3 and 7 s.
 */
const BACKLOG = 4_096;

/**
 * Creates the server like Nest does, with options that Nest does not pass on. Express replaces the prototype of every
 * request and response, which costs V8 4 µs each time; here Node creates them with Express's prototypes.
 */
export class HttpAdapter extends ExpressAdapter {
  override initHttpServer({ httpsOptions }: NestApplicationOptions): void {
    const app = this.getInstance<Express>();
    class ExpressRequest extends IncomingMessage {}
    class ExpressResponse extends ServerResponse {}
    Object.setPrototypeOf(ExpressRequest.prototype, app.request);
    Object.setPrototypeOf(ExpressResponse.prototype, app.response);
    app.request = ExpressRequest.prototype as Express['request'];
    app.response = ExpressResponse.prototype as Express['response'];
    const options = {
      IncomingMessage: ExpressRequest,
      ServerResponse: ExpressResponse,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      requireHostHeader: false, // refused by httpSurface instead, in the shape of all errors
    };
    this.setHttpServer(
      httpsOptions ? createSecureServer({ ...httpsOptions, ...options }, app) : createServer(options, app),
    );
  }

  override listen(port: string | number, hostname?: string | (() => void), callback?: () => void): Server {
    const [host, listening] = typeof hostname === 'string' ? [hostname, callback] : [undefined, hostname];
    return this.httpServer.listen({ port: Number(port), host, backlog: BACKLOG }, listening);
  }
}
