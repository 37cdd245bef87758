import { randomHex } from '@platform/ids';

/** A span's position in a trace (W3C Trace Context): hex ids of 32 and 16 digits, hex flags of 2. */
export interface TraceContext {
  readonly traceId: string;
  readonly spanId: string;
  /** Undefined for the root of a trace, and for a span of another service. */
  readonly parentSpanId?: string | undefined;
  readonly flags: string;
}

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/**
 * Reads a `traceparent` header (https://www.w3.org/TR/trace-context/#traceparent-header).
 * @returns undefined if it is missing or invalid: the specification asks to start a new trace then
 */
export function parseTraceparent(header: string | undefined): TraceContext | undefined {
  const match = TRACEPARENT.exec(header ?? '');
  if (!match) return undefined;
  const [, version = '', traceId = '', spanId = '', flags = '', rest] = match;
  if (version === 'ff' || (version === '00' && rest !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  // We only know `sampled`; other flags must not be propagated.
  return { traceId, spanId, flags: Number.parseInt(flags, 16) & 1 ? '01' : '00' };
}

/** A new span: a child of `parent`, or the root of a new trace. */
export function childOf(parent: TraceContext | undefined): TraceContext {
  return {
    traceId: parent?.traceId ?? randomHex(32),
    spanId: randomHex(16),
    parentSpanId: parent?.spanId,
    flags: parent?.flags ?? '01',
  };
}

/** The `traceparent` header that propagates this span. */
export function traceparent(trace: TraceContext): string {
  return `00-${trace.traceId}-${trace.spanId}-${trace.flags}`;
}
