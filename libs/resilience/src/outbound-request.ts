export interface OutboundRequest {
  readonly method: 'GET' | 'HEAD' | 'OPTIONS' | 'PUT' | 'DELETE' | 'POST' | 'PATCH';
  /** Begins with a slash and may hold a query; the dependency's URL goes before it. */
  readonly path: string;
  /** Sent as JSON, in every attempt the same bytes. */
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as `Idempotency-Key`. With it a POST or PATCH may be tried again, so the dependency must honour it. */
  readonly idempotencyKey?: string;
  /** In milliseconds, in place of the setting. The deadline is then no shorter than this. */
  readonly attemptTimeoutMs?: number;
  /** Whether an answer below 400 is what was asked for. One that is not is given all the same, and counted as `unexpected`. */
  readonly isExpected?: (answer: OutboundAnswer) => boolean;
  readonly signal?: AbortSignal;
}

export interface OutboundAnswer {
  readonly status: number;
  /** By names in lower case; several of one name are joined by `, `. */
  readonly headers: Readonly<Record<string, string>>;
  /** The parsed JSON; undefined when there is no body or when it is not JSON. */
  readonly body: unknown;
}
