import { setTimeout as delay } from 'node:timers/promises';
import type { OutboundSettings } from '@platform/config';
import { Pool } from 'undici';
import { OutboundFailure } from './outbound-failure';
import type { OutboundAnswer, OutboundRequest } from './outbound-request';

/** For TCP and TLS together. undici's timer for it can be half a second late. */
const MAX_CONNECT_MS = 1_000;
const MAX_ANSWER_BYTES = 1024 * 1024;
/** How long attempts under way may go on when the process stops, unless whoever made them aborts them sooner. */
const LAST_ATTEMPTS_MS = 12_000;

/** No connection came about, so nothing was sent. Other codes can also end a connection in use. */
const UNREACHED = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT']);

/** What goes over the wire. */
export interface OutboundMessage {
  readonly method: OutboundRequest['method'];
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string | undefined;
}

/** The connections to one dependency, which stay open between requests. */
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
      // The attempt has a timeout of its own.
      headersTimeout: 0,
      bodyTimeout: 0,
      // On a connection that many attempts share, an abort could only reset its stream: one that hangs would go on
      // swallowing attempts.
      allowH2: false,
    });
  }

  /**
   * One attempt. Resolves with an answer of any status; without a whole answer its socket ends with it.
   * @throws {OutboundFailure} of the kinds timeout, network and aborted
   */
  async exchange(message: OutboundMessage, timeoutMs: number, signal?: AbortSignal): Promise<OutboundAnswer> {
    const attempt = new AbortController();
    const { promise: cut, reject } = Promise.withResolvers<never>();
    const cutShort = (kind: 'timeout' | 'aborted') => {
      // undici hears of an abort only once it has a connection: an attempt that waits for one must not wait on.
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

  /** Attempts under way may finish. */
  async close(): Promise<void> {
    if (this.pool.closed) return;
    await Promise.race([this.pool.close(), delay(LAST_ATTEMPTS_MS, undefined, { ref: false })]);
    await this.pool.destroy();
  }

  private async send({ path, ...message }: OutboundMessage, signal: AbortSignal): Promise<OutboundAnswer> {
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
      // A request that cannot be written is a fault of the caller.
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
