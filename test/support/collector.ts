import { createServer } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { parse } from 'protobufjs';
import { listen, type RunningServer } from '../../apps/sandbox/src/listen';

/** The part that tests read of opentelemetry/proto/collector/trace/v1/trace_service.proto, with its field numbers. */
const ExportTraceServiceRequest = parse(`
  syntax = "proto3";
  message ExportTraceServiceRequest { repeated ResourceSpans resource_spans = 1; }
  message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
  message Resource { repeated KeyValue attributes = 1; }
  message ScopeSpans { repeated Span spans = 2; }
  message Span {
    bytes trace_id = 1; bytes span_id = 2; bytes parent_span_id = 4; string name = 5; SpanKind kind = 6;
    fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8;
    repeated KeyValue attributes = 9; Status status = 15;
  }
  enum SpanKind { UNSPECIFIED = 0; INTERNAL = 1; SERVER = 2; CLIENT = 3; PRODUCER = 4; CONSUMER = 5; }
  message Status { StatusCode code = 3; }
  enum StatusCode { UNSET = 0; OK = 1; ERROR = 2; }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
`).root.lookupType('ExportTraceServiceRequest');

interface KeyValue {
  readonly key: string;
  readonly value: Record<string, unknown>;
}

interface WireSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes?: readonly KeyValue[];
  readonly status?: { readonly code?: string };
}

export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty at the root of a trace. */
  readonly parentSpanId: string;
  readonly name: string;
  readonly kind: string;
  /** Unix time in milliseconds. */
  readonly startMs: number;
  readonly endMs: number;
  readonly isError: boolean;
  readonly attributes: Record<string, unknown>;
  readonly resource: Record<string, unknown>;
}

const hex = (base64 = '') => Buffer.from(base64, 'base64').toString('hex');

const valuesOf = (pairs: readonly KeyValue[] = []) =>
  Object.fromEntries(pairs.map(({ key, value }) => [key, Object.values(value)[0]]));

/** Takes spans as a collector does: OTLP over HTTP, in protobuf. */
export class Collector {
  readonly spans: CollectedSpan[] = [];
  /** Status of its answers; with 0 it does not answer. */
  status = 200;
  answer: Buffer = Buffer.alloc(0);

  private constructor(private readonly server: RunningServer) {}

  static async start(): Promise<Collector> {
    const server = createServer();
    const collector = new Collector(await listen(server, 0));
    server.on('request', (req, res) => {
      void buffer(req).then((bytes) => {
        if (collector.status === 0) return;
        if (collector.status === 200 && req.method === 'POST' && req.url === '/v1/traces') collector.take(bytes);
        res.writeHead(collector.status).end(collector.answer);
      });
    });
    return collector;
  }

  get url(): string {
    return this.server.url;
  }

  stop(): Promise<void> {
    return this.server.stop();
  }

  private take(bytes: Buffer): void {
    const decoded = ExportTraceServiceRequest.toObject(ExportTraceServiceRequest.decode(bytes), {
      bytes: String,
      enums: String,
      longs: String,
    }) as { resourceSpans: { resource: { attributes: KeyValue[] }; scopeSpans: { spans: WireSpan[] }[] }[] };
    for (const { resource, scopeSpans } of decoded.resourceSpans) {
      const about = valuesOf(resource.attributes);
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        this.spans.push({
          traceId: hex(span.traceId),
          spanId: hex(span.spanId),
          parentSpanId: hex(span.parentSpanId),
          name: span.name,
          kind: span.kind,
          startMs: Number(span.startTimeUnixNano) / 1e6,
          endMs: Number(span.endTimeUnixNano) / 1e6,
          isError: span.status?.code === 'ERROR',
          attributes: valuesOf(span.attributes),
          resource: about,
        });
      }
    }
  }
}
