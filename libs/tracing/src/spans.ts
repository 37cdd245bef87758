import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable, Logger } from '@nestjs/common';
import { type Attributes, diag, DiagLogLevel, type SpanContext, SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { millisToHrTime, setGlobalErrorHandler } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import {
  defaultResource,
  detectResources,
  resourceAttributesEnvDetector,
  resourceFromAttributes,
  serviceNameEnvDetector,
} from '@opentelemetry/resources';
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

/** How long the process waits at its end for the collector to take the last spans. */
const LAST_EXPORT_MS = 2_000;
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
  private readonly processor: BatchSpanProcessor | undefined;
  private readonly resource = defaultResource()
    .merge(resourceFromAttributes({ 'service.name': 'order-service' }))
    .merge(detectResources({ detectors: [resourceAttributesEnvDetector, serviceNameEnvDetector] }));

  constructor(@Inject(CONFIG) { otlpTracesUrl }: Pick<Config, 'otlpTracesUrl'>) {
    if (otlpTracesUrl === undefined) return;
    this.reportFailures();
    this.processor = new BatchSpanProcessor({ exporter: new OTLPTraceExporter({ url: otlpTracesUrl }) });
  }

  /** Whether spans of this trace are exported: ask before you make one. */
  has(trace: TraceContext): boolean {
    return this.processor !== undefined && trace.flags === '01';
  }

  /** @param trace the span's own position, as its children name it */
  add(trace: TraceContext, { name, kind, start, attributes, error }: EndedSpan): void {
    if (!this.has(trace)) return;
    const durationMs = performance.now() - start;
    const endMs = Date.now();
    const { parentSpanId } = trace;
    this.processor?.onEnd({
      name,
      kind: SpanKind[kind],
      spanContext: () => spanContext(trace.traceId, trace.spanId),
      ...(parentSpanId !== undefined && { parentSpanContext: spanContext(trace.traceId, parentSpanId) }),
      startTime: millisToHrTime(endMs - durationMs),
      endTime: millisToHrTime(endMs),
      duration: millisToHrTime(durationMs),
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
    const closed = this.processor?.shutdown().catch((error: unknown) => this.warn(error));
    await Promise.race([closed, delay(LAST_EXPORT_MS, undefined, { ref: false })]);
  }

  /** OpenTelemetry tells failures to nobody unless it is asked to, and then those of the whole process. */
  private reportFailures(): void {
    setGlobalErrorHandler((error) => this.outside(() => this.warn(error)));
    const ignore = () => undefined;
    const warn = (message: string) => this.outside(() => this.logger.warn(message));
    const options = { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true };
    diag.setLogger({ error: warn, warn, info: ignore, debug: ignore, verbose: ignore }, options);
  }

  private warn(error: unknown): void {
    this.logger.warn({ err: error }, 'Spans cannot be exported; they are dropped');
  }
}

/** The exporter would say of the others that they are empty. */
function defined(attributes: Attributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}

function spanContext(traceId: string, spanId: string): SpanContext {
  return { traceId, spanId, traceFlags: 1 };
}
