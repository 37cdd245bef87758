import { createServer, IncomingMessage, type Server, ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { NestApplicationOptions } from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import type { Express } from 'express';

/** How often Node looks for requests that are late. Its 30 s would let headers take four times as long as they may. */
const TIMEOUT_CHECK_MS = 1_000;

/**
 * Connections that the kernel takes before we do (it may allow fewer: `net.core.somaxconn`). Of thousands that come at
 * once, as after a release, it would refuse those beyond Node's 511 without a word, and they try again after 1, 3, 7 s.
 */
const BACKLOG = 4_096;

/**
 * Makes the server as Nest does, with options that Nest does not pass on. Express gives what Node has made of a request
 * another prototype, each time, for which V8 takes 4 µs; here Node makes it with that prototype.
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
      requireHostHeader: false, // refused by httpSurface, in the shape of all errors
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
