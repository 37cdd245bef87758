import type { OutboundSettings } from '@platform/config';
import { z } from 'zod';
import { OutboundConnections } from './outbound-connections';
import { OutboundFailure } from './outbound-failure';

/** Fraction of its life after which a token is renewed: it outlasts a short outage of the provider. */
const RENEW_AFTER = 0.8;
/** Pause before another renewal if one failed, or if the dependency refuses the token. */
const RENEW_AGAIN_MS = 1_000;
/** Used if `expires_in` is missing: RFC 6749 section 5.1 only recommends it. */
const DEFAULT_LIFETIME_S = 60;

const answer = z.object({
  access_token: z.string().regex(/^[\x21-\x7e]{1,8192}$/),
  token_type: z.string().regex(/^bearer$/i),
  expires_in: z.coerce.number().positive().default(DEFAULT_LIFETIME_S), // some providers send a string
});

interface Known {
  readonly value: string;
  readonly since: number;
  renewAt: number;
  readonly expiresAt: number;
}

/**
 * The access token for calling a dependency: from the client credentials grant (RFC 6749 section 4.4), shared by all
 * requests and renewed before it expires.
 */
export class OutboundToken {
  private readonly endpoint: OutboundConnections;
  private readonly message: { method: 'POST'; path: string; headers: Record<string, string>; body: string };
  private known: Known | undefined;
  private fetching: Promise<string> | undefined;

  constructor(
    private readonly name: string,
    { url, clientId, clientSecret, scope }: NonNullable<OutboundSettings['token']>,
    private readonly timeoutMs: number,
  ) {
    const { origin, pathname } = new URL(url);
    this.endpoint = new OutboundConnections(name, { url: origin, maxConcurrent: 1, attemptTimeoutMs: timeoutMs });
    // Both are form-encoded before they are joined (RFC 6749 section 2.3.1).
    const credentials = [clientId, clientSecret].map(formEncoded).join(':');
    this.message = {
      method: 'POST',
      path: pathname,
      headers: {
        accept: 'application/json',
        authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: new URLSearchParams({ grant_type: 'client_credentials', ...(scope !== undefined && { scope }) }).toString(),
    };
  }

  /** @throws {OutboundFailure} `no_token` if there is none within `timeoutMs`; `aborted` if the signal fires first */
  async get(timeoutMs: number, signal?: AbortSignal): Promise<string> {
    const { known } = this;
    const now = performance.now();
    if (known && now < known.renewAt) return known.value;
    this.fetching ??= this.fetch().finally(() => (this.fetching = undefined));
    if (!known || now >= known.expiresAt) return this.waitFor(this.fetching, timeoutMs, signal);
    this.fetching.catch(() => (known.renewAt = performance.now() + RENEW_AGAIN_MS));
    return known.value;
  }

  /** Discards a token that the dependency refused, unless it is new: then another one would not help. */
  refused(token: string): void {
    const { known } = this;
    if (known?.value === token && performance.now() - known.since > RENEW_AGAIN_MS) this.known = undefined;
  }

  close(): Promise<void> {
    return this.endpoint.close();
  }

  /** Bounds only this caller's wait: others may wait longer for the same token. */
  private waitFor(fetching: Promise<string>, timeoutMs: number, signal?: AbortSignal): Promise<string> {
    const end = AbortSignal.any([AbortSignal.timeout(Math.ceil(timeoutMs)), ...(signal ? [signal] : [])]);
    const { promise: cut, reject } = Promise.withResolvers<never>();
    end.addEventListener('abort', () => {
      reject(signal?.aborted ? new OutboundFailure(this.name, 'aborted', { wasSent: false }) : this.failure('timeout'));
    });
    return Promise.race([cut, fetching]);
  }

  private async fetch(): Promise<string> {
    const start = performance.now();
    const { status, body } = await this.endpoint.exchange(this.message, this.timeoutMs).catch((error: unknown) => {
      throw error instanceof OutboundFailure ? this.failure(error.code ?? error.kind) : error;
    });
    const parsed = answer.safeParse(body);
    if (status !== 200 || !parsed.success) throw this.failure(status === 200 ? 'not a token' : String(status));
    const { access_token: value, expires_in: lifeS } = parsed.data;
    const lifeMs = lifeS * 1_000;
    this.known = { value, since: start, renewAt: start + lifeMs * RENEW_AFTER, expiresAt: start + lifeMs };
    return value;
  }

  private failure(code: string): OutboundFailure {
    return new OutboundFailure(this.name, 'no_token', { wasSent: false, code });
  }
}

function formEncoded(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1);
}
