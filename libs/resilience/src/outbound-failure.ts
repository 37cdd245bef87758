export type OutboundFailureKind =
  'timeout' | 'network' | 'status' | 'no_token' | 'circuit_open' | 'bulkhead_full' | 'aborted';

interface OutboundFailureFacts {
  readonly wasSent: boolean;
  readonly status?: number | undefined;
  readonly code?: string | undefined;
  readonly retryAfterMs?: number | undefined;
}

/**
 * A dependency gave no answer to work with. It has no cause: what undici throws can carry pieces of bodies and headers,
 * and those can be personal data.
 */
export class OutboundFailure extends Error {
  override readonly name = 'OutboundFailure';
  /** False only if it is certain that nothing of any attempt reached the dependency. */
  readonly wasSent: boolean;
  /** With the kind `status`: 408, 425, 429, 500 and above, or 401 where the dependency is called with a token. */
  readonly status: number | undefined;
  /**
   * With the kinds `network` and `timeout`, where there is one: the code of Node.js or undici, such as `ECONNRESET`. With
   * `no_token` what kept the token endpoint from giving one, in a word or a status.
   */
  readonly code: string | undefined;
  /** What the dependency asked for with `Retry-After`, in milliseconds from its answer. */
  readonly retryAfterMs: number | undefined;

  constructor(
    readonly dependency: string,
    readonly kind: OutboundFailureKind,
    facts: OutboundFailureFacts,
  ) {
    const detail = facts.status ?? facts.code;
    super(`The call of ${dependency} failed: ${kind}${detail === undefined ? '' : ` ${detail}`}`);
    this.wasSent = facts.wasSent;
    this.status = facts.status;
    this.code = facts.code;
    this.retryAfterMs = facts.retryAfterMs;
  }
}
