import { setTimeout as delay } from 'node:timers/promises';
import type { OutboundSettings } from '@platform/config';
import { Pool } from 'undici';
import { OutboundFailure } from './outbound-failure';
import type { OutboundRequest, OutboundResponse } from './outbound-request';

/** For TCP and TLS together. undici's timer can fire half a second late. */
const MAX_CONNECT_MS = 1_000;
const MAX_ANSWER_BYTES = 1024 * 1024;
/** How long a shutdown waits for attempts under way, unless their callers abort them sooner. */
const LAST_ATTEMPTS_MS = 12_000;

/** Codes of failures to connect: nothing was sent. Other codes can also come from a connection in use. */
const UNREACHED = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT']);

/** An HTTP request as it is sent. */
export interface OutboundMessage {
  readonly method: OutboundRequest['method'];
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string | undefined;
}

/** Persistent connections to one dependency. */
export class OutboundConnections {
  private readonly pool: Pool;
  private readonly pathPrefix: string;

  constructor(
    private readonly name: string,
    settings: Pick<OutboundSettings, 'url' | 'maxConcurrent' | 'attemptTimeoutMs'>,
  ) {
    const { origin, pathname } = new URL(settings.url);
    this.pathPrefix = pathname.replace(/\/$/, '');
    this.pool = new Pool(origin, {
      connections: settings.maxConcurrent,
      connectTimeout: Math.min(MAX_CONNECT_MS, settings.attemptTimeoutMs),
      maxResponseSize: MAX_ANSWER_BYTES,
      // The attempt as a whole has a timeout.
      headersTimeout: 0,
      bodyTimeout: 0,
      // With HTTP/2, attempts share a connection and an abort resets only a stream: a connection that hangs would go on
      // swallowing attempts.
      allowH2: false,
    });
  }

  /**
   * Makes one attempt. Resolves with a response of any status. A connection without a complete response is closed.
   * @throws {OutboundFailure} of kind `timeout`, `network` or `aborted`
   */
  async exchange(message: OutboundMessage, timeoutMs: number, signal?: AbortSignal): Promise<OutboundResponse> {
    const attempt = new AbortController();
    const { promise: cut, reject } = Promise.withResolvers<never>();
    const cutShort = (kind: 'timeout' | 'aborted') => {
      // Rejected here, because undici reacts to an abort only once the attempt has a connection.
      reject(new OutboundFailure(this.name, kind, { wasSent: true }));
      attempt.abort();
    };
    const onAbort = () => cutShort('aborted');
    const timer = setTimeout(cutShort, timeoutMs, 'timeout').unref();
    signal?.addEventListener('abort', onAbort);
    try {
      return await Promise.race([cut, this.send(message, attempt.signal)]);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Lets attempts under way finish, for 12 s at most. */
  async close(): Promise<void> {
    if (this.pool.closed) return;
    await Promise.race([this.pool.close(), delay(LAST_ATTEMPTS_MS, undefined, { ref: false })]);
    await this.pool.destroy();
  }

  private async send({ path, ...message }: OutboundMessage, signal: AbortSignal): Promise<OutboundResponse> {
    try {
      const request = { ...message, path: this.pathPrefix + path, signal };
      const { statusCode, headers, body } = await this.pool.request(request);
      return { status: statusCode, headers: joined(headers), body: parsed(await body.text()) };
    } catch (error) {
      throw this.failureOf(error);
    }
  }

  private failureOf(error: unknown): unknown {
    const code = (error as { code?: string }).code;
    switch (code) {
      // An invalid request is the caller's fault.
      case 'UND_ERR_INVALID_ARG':
        return error;
      case 'UND_ERR_CLOSED':
      case 'UND_ERR_DESTROYED':
        return new OutboundFailure(this.name, 'aborted', { wasSent: true });
      default: {
        const kind = code === 'UND_ERR_CONNECT_TIMEOUT' ? 'timeout' : 'network';
        return new OutboundFailure(this.name, kind, { wasSent: code === undefined || !UNREACHED.has(code), code });
      }
    }
  }
}

function joined(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value].flat().join(', ')]));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
