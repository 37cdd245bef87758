import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable, Logger } from '@nestjs/common';
import { type Attributes, diag, DiagLogLevel, type SpanContext, SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { millisToHrTime, setGlobalErrorHandler } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { defaultResource, emptyResource, type Resource, resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor } from '@opentelemetry/sdk-trace';
import { CONFIG, type Config } from '@platform/config';
import type { TraceContext } from '@platform/request-context';

/** A span that has ended. Names and attributes follow OpenTelemetry's semantic conventions where there are any. */
export interface EndedSpan {
  /** Must have low cardinality: no ids. */
  readonly name: string;
  readonly kind: keyof typeof SpanKind;
  /** `performance.now()` when the work began. */
  readonly start: number;
  readonly attributes: Attributes;
  /** Error type, of low cardinality; undefined if the work succeeded. */
  readonly error?: string | undefined;
}

/** The `error` of a span whose work threw: the error's code if it has one, otherwise its name. */
export function errorTypeOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error; // must not throw, whatever was thrown
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : error.name;
}

/** Concurrent exports of 512 spans each: as many as can be left at the end, four queued and one in progress. */
const BATCHES_UNDER_WAY = 5;
/** How long a shutdown waits for the collector to accept the last spans. */
const LAST_EXPORT_MS = 1_000;
/** At most one warning in this time: without a collector every batch fails. */
const QUIET_MS = 10_000;
const SCOPE = { name: '@platform/tracing' };

/**
 * Exports spans to a collector (OTLP over HTTP) if `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Ids come from the
 * `RequestContext`, so that spans, logs and events have the same. Work never waits for the export: spans that the
 * collector does not accept in time are dropped with a warning.
 */
@Injectable()
export class Spans {
  private readonly logger = new Logger(Spans.name);
  /** Otherwise a failed export would be logged in the context of the most recent request. */
  private readonly outside = AsyncLocalStorage.snapshot();
  private readonly exporter: OTLPTraceExporter | undefined;
  private readonly processor: BatchSpanProcessor | undefined;
  private readonly resource: Resource = emptyResource();
  private quietUntil = 0;
  private unsaid = 0;

  constructor(@Inject(CONFIG) { spans }: Pick<Config, 'spans'>) {
    if (!spans) return;
    this.reportFailures();
    const process = { 'service.instance.id': randomUUID(), 'host.name': hostname() };
    this.resource = defaultResource().merge(resourceFromAttributes({ ...process, ...spans.resource }));
    const { url, headers } = spans;
    this.exporter = new OTLPTraceExporter({ url, headers: { ...headers }, concurrencyLimit: BATCHES_UNDER_WAY });
    this.processor = new BatchSpanProcessor({ exporter: this.exporter });
  }

  /** Whether spans of this trace are exported. To be checked before one is built. */
  has(trace: TraceContext): boolean {
    return this.processor !== undefined && trace.flags === '01';
  }

  /** @param trace the span's own ids, which its children have as their parent */
  add(trace: TraceContext, { name, kind, start, attributes, error }: EndedSpan): void {
    if (!this.has(trace)) return;
    const end = performance.now();
    const { traceId, spanId, parentSpanId } = trace;
    const spanContext: SpanContext = { traceId, spanId, traceFlags: 1 };
    // Only the parent of a CLIENT span is in the same process.
    const parent = parentSpanId !== undefined && { ...spanContext, spanId: parentSpanId, isRemote: kind !== 'CLIENT' };
    this.processor?.onEnd({
      name,
      kind: SpanKind[kind],
      spanContext: () => spanContext,
      ...(parent && { parentSpanContext: parent }),
      startTime: millisToHrTime(unixMs(start)),
      endTime: millisToHrTime(unixMs(end)),
      duration: millisToHrTime(end - start),
      ended: true,
      status: { code: error === undefined ? SpanStatusCode.UNSET : SpanStatusCode.ERROR },
      attributes: defined({ ...attributes, 'error.type': error }),
      links: [],
      events: [],
      resource: this.resource,
      instrumentationScope: SCOPE,
      droppedAttributesCount: 0,
      droppedEventsCount: 0,
      droppedLinksCount: 0,
    });
  }

  /** Exports the remaining spans, if the collector accepts them in time. No span can be added afterwards. */
  async close(): Promise<void> {
    if (!this.processor) return;
    const closed = this.processor.shutdown().catch((error: unknown) => {
      this.warn({ err: error });
      return this.exporter?.shutdown(); // waits for the batches that did not fail
    });
    const isLate = await Promise.race([closed, delay(LAST_EXPORT_MS, true, { ref: false })]);
    if (isLate) this.logger.warn('The collector did not take the last spans in time; they are dropped');
  }

  /** OpenTelemetry reports failures only to handlers that are registered for the whole process. */
  private reportFailures(): void {
    setGlobalErrorHandler((error) => this.warn({ err: error }));
    const ignore = () => undefined;
    const warn = (...parts: unknown[]) => this.warn({ reason: parts.map(toText).filter(Boolean).join(' ') });
    const options = { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true };
    diag.setLogger({ error: warn, warn, info: ignore, debug: ignore, verbose: ignore }, options);
  }

  private warn(facts: object): void {
    if (performance.now() < this.quietUntil) {
      this.unsaid += 1;
      return;
    }
    this.outside(() =>
      this.logger.warn({ ...facts, unsaid: this.unsaid }, 'Spans cannot be exported; they are dropped'),
    );
    this.quietUntil = performance.now() + QUIET_MS;
    this.unsaid = 0;
  }
}

/** Drops objects, which may be the collector's response. */
function toText(part: unknown): string {
  if (part instanceof Error) return part.message;
  return typeof part === 'string' ? part : '';
}

/** Removes undefined attributes, which the exporter would send as empty values. */
function defined(attributes: Attributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}

let unixOrigin = performance.timeOrigin;

/**
 * Unix time of a `performance.now()`. Spans close in time use the same origin, so that none begins before its parent:
 * the system clock is adjusted now and then, `performance.now()` is not.
 */
function unixMs(moment: number): number {
  const now = Date.now() - performance.now();
  if (Math.abs(now - unixOrigin) > 2) unixOrigin = now;
  return unixOrigin + moment;
}
