import type { Counter, Gauge, Histogram } from 'prom-client';
import type { OutboundFailureKind } from './outbound-failure';

/** What became of an attempt. `refused` is a 4xx, `failed` a 5xx, `unexpected` an answer that the caller cannot use. */
export type OutboundOutcome =
  | 'success'
  | 'unexpected'
  | 'refused'
  | 'failed'
  | 'network_error'
  | Exclude<OutboundFailureKind, 'network' | 'status'>;

export interface OutboundMetrics {
  readonly requests: Counter<'outcome'>;
  /** In seconds, of the attempts that were made. */
  readonly duration: Histogram;
  /** 0 closed, 1 half-open, 2 open. All dependencies of the process share it. */
  readonly circuitState: Gauge<'name'>;
}
