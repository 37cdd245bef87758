import type { Counter, Gauge, Histogram } from 'prom-client';
import type { OutboundFailureKind } from './outbound-failure';

/** Outcome of an attempt. `refused` is a 4xx, `failed` a 5xx, `unexpected` a response that the caller cannot use. */
export type OutboundOutcome =
  | 'success'
  | 'unexpected'
  | 'refused'
  | 'failed'
  | 'network_error'
  | Exclude<OutboundFailureKind, 'network' | 'status'>;

export interface OutboundMetrics {
  readonly requests: Counter<'outcome'>;
  /** Duration of the attempts that were made, in seconds. */
  readonly duration: Histogram;
  /** 0 closed, 1 half-open, 2 open. Shared by all dependencies of the process. */
  readonly circuitState: Gauge<'name'>;
}
