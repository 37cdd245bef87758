export type OutboundFailureKind =
  'timeout' | 'network' | 'status' | 'no_token' | 'circuit_open' | 'bulkhead_full' | 'aborted';

interface OutboundFailureFacts {
  readonly wasSent: boolean;
  readonly status?: number | undefined;
  readonly code?: string | undefined;
  readonly retryAfterMs?: number | undefined;
}

/**
 * A call without a usable response. It has no `cause`: undici's errors can contain parts of bodies and headers, and so
 * personal data.
 */
export class OutboundFailure extends Error {
  override readonly name = 'OutboundFailure';
  /** False only if certainly nothing of any attempt reached the dependency. */
  readonly wasSent: boolean;
  /** With kind `status`: 408, 425, 429, 500 and above, or 401 if the dependency is called with a token. */
  readonly status: number | undefined;
  /**
   * With kinds `network` and `timeout`, the error code of Node.js or undici if there is one, such as `ECONNRESET`. With
   * `no_token`, why there is no token: an error code, a failure kind, a status or `not a token`.
   */
  readonly code: string | undefined;
  /** The dependency's `Retry-After`, in milliseconds from its response. */
  readonly retryAfterMs: number | undefined;

  constructor(
    readonly dependency: string,
    readonly kind: OutboundFailureKind,
    facts: OutboundFailureFacts,
  ) {
    const detail = facts.status ?? facts.code;
    super(`The call to ${dependency} failed: ${kind}${detail === undefined ? '' : ` ${detail}`}`);
    this.wasSent = facts.wasSent;
    this.status = facts.status;
    this.code = facts.code;
    this.retryAfterMs = facts.retryAfterMs;
  }
}
