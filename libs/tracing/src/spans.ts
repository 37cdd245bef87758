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

/** A piece of work that has ended. Names and attributes are those of OpenTelemetry's semantic conventions, if it has them. */
export interface EndedSpan {
  /** Of low cardinality: no id in it. */
  readonly name: string;
  readonly kind: keyof typeof SpanKind;
  /** `performance.now()` when the work began. */
  readonly start: number;
  readonly attributes: Attributes;
  /** What kind of failure it was, of low cardinality; undefined when the work did not fail. */
  readonly error?: string | undefined;
}

/** The `error` of a span whose work threw: the code of what was thrown, where it has one, else its name. */
export function errorTypeOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error; // whatever is thrown, this must not throw
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : error.name;
}

/** Of 512 spans: as many as can be left at the end of the process, four that wait and the one on its way. */
const BATCHES_UNDER_WAY = 5;
/** How long the process waits at its end for the collector to take the last spans. */
const LAST_EXPORT_MS = 1_000;
/** A collector that is away fails many batches. */
const QUIET_MS = 10_000;
const SCOPE = { name: '@platform/tracing' };

/**
 * Exports spans to a collector (OTLP over HTTP) where `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Ids come from the
 * `RequestContext`, so that spans, logs and events name the same ones. Work never waits for the export: what the
 * collector does not take in time is dropped, and a warning says so.
 */
@Injectable()
export class Spans {
  private readonly logger = new Logger(Spans.name);
  /** Else a failed export would be logged as if it were of the request that came last. */
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

  /** Whether spans of this trace are exported: ask before you make one. */
  has(trace: TraceContext): boolean {
    return this.processor !== undefined && trace.flags === '01';
  }

  /** @param trace the span's own position, as its children name it */
  add(trace: TraceContext, { name, kind, start, attributes, error }: EndedSpan): void {
    if (!this.has(trace)) return;
    const end = performance.now();
    const { traceId, spanId, parentSpanId } = trace;
    const spanContext: SpanContext = { traceId, spanId, traceFlags: 1 };
    // Only a call of others has its parent in the same piece of work.
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

  /** The last spans go out, if the collector takes them soon. None can be added afterwards. */
  async close(): Promise<void> {
    if (!this.processor) return;
    const closed = this.processor.shutdown().catch((error: unknown) => {
      this.warn({ err: error });
      return this.exporter?.shutdown(); // which waits for the batches that did not fail
    });
    const isLate = await Promise.race([closed, delay(LAST_EXPORT_MS, true, { ref: false })]);
    if (isLate) this.logger.warn('The collector did not take the last spans in time; they are dropped');
  }

  /** OpenTelemetry tells failures to nobody unless it is asked to, and then those of the whole process. */
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

/** Of what OpenTelemetry would print: an object can be what the collector answered. */
function toText(part: unknown): string {
  if (part instanceof Error) return part.message;
  return typeof part === 'string' ? part : '';
}

/** The exporter would say of the others that they are empty. */
function defined(attributes: Attributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}

let unixOrigin = performance.timeOrigin;

/**
 * Spans that are near each other are told by the same two clocks, so that none begins before its parent. The system's is
 * corrected now and then, and `performance.now()` is not.
 */
function unixMs(moment: number): number {
  const now = Date.now() - performance.now();
  if (Math.abs(now - unixOrigin) > 2) unixOrigin = now;
  return unixOrigin + moment;
}
