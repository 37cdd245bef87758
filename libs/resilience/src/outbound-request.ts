export interface OutboundRequest {
  readonly method: 'GET' | 'HEAD' | 'OPTIONS' | 'PUT' | 'DELETE' | 'POST' | 'PATCH';
  /** Appended to the dependency's URL. Begins with a slash and may contain a query. */
  readonly path: string;
  /** Sent as JSON, the same bytes in every attempt. */
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as `Idempotency-Key`, which the dependency must honour: with it, POST and PATCH are retried too. */
  readonly idempotencyKey?: string;
  /** Replaces the configured timeout, in milliseconds. The deadline is extended to it if it is shorter. */
  readonly attemptTimeoutMs?: number;
  /** Whether a response below 400 is usable. If not, it is returned all the same, and counted as `unexpected`. */
  readonly isExpected?: (answer: OutboundResponse) => boolean;
  readonly signal?: AbortSignal;
}

export interface OutboundResponse {
  readonly status: number;
  /** By lower-case name. Repeated headers are joined with `, `. */
  readonly headers: Readonly<Record<string, string>>;
  /** The parsed JSON; undefined if the body is empty or not JSON. */
  readonly body: unknown;
}
