import type { Config } from '@platform/config';
import { currentContext } from '@platform/request-context';
import type { Options } from 'pino-http';

/** One JSON object a line on standard output; every line inside a request, job or event says whose it is. */
export function loggerOptions(config: Config) {
  return {
    level: config.logLevel,
    base: undefined,
    timestamp: timeField,
    formatters: { level: (level: string) => ({ level }) },
    mixin: contextFields,
    // Our serializers shall see errors as they are, not as pino-http's have already made them.
    wrapSerializers: false,
    serializers: { err: (error: unknown) => errorFields(error), error: (error: unknown) => errorFields(error) },
  } satisfies Options;
}

let lastTime = '';
let timeMoment = Number.NaN;

/** RFC 3339, as pino's own. Node needs half a microsecond for it, and most lines are of the last one's millisecond. */
function timeField(): string {
  const now = Date.now();
  if (now !== timeMoment) {
    lastTime = `,"time":"${new Date(now).toISOString()}"`;
    timeMoment = now;
  }
  return lastTime;
}

function contextFields(): object {
  const context = currentContext();
  if (!context) return {};
  const { requestId, principal, orderId, trace } = context;
  return {
    requestId,
    clientId: principal?.clientId,
    scope: principal && [...principal.scopes].join(' '),
    orderId,
    traceId: trace.traceId,
    spanId: trace.spanId,
  };
}

/** Causes can form a circle. */
const MAX_CAUSE_DEPTH = 5;

/** Named fields only: what libraries hang on their errors (SQL parameters, request bodies) can be personal data. */
function errorFields(error: unknown, depth = 0): object {
  if (!(error instanceof Error)) return { message: String(error) };
  const { name, message, stack, cause } = error;
  const inner = (value: unknown) => errorFields(value, depth + 1);
  return {
    type: name,
    code: (error as { code?: unknown }).code,
    message,
    stack,
    cause: cause === undefined || depth === MAX_CAUSE_DEPTH ? undefined : inner(cause),
    errors: error instanceof AggregateError && depth < MAX_CAUSE_DEPTH ? error.errors.map(inner) : undefined,
  };
}
