import { Logger } from '@nestjs/common';
import type { HttpAdapterHost } from '@nestjs/core';
import { currentContext, newContext, type RequestContext, runInContext } from '@platform/request-context';
import type { EndedSpan, Spans } from '@platform/tracing';
import type { Application, Request, RequestHandler } from 'express';
import { Counter, Gauge, Histogram } from 'prom-client';

const LABELS = ['method', 'route', 'status_code'] as const;

/** nginx's status code for a client that disconnected before the response was sent. */
const CLIENT_CLOSED_REQUEST = 499;

/** Route label of requests that match no route. */
const UNMATCHED = 'unmatched';

/** The paths of probes and metrics, which come constantly and matter most under overload. */
export const OPERATIONAL_PATHS = /^\/(health\/(live|ready)|metrics)\/?(\?|$)/;

const requests = new Counter({ name: 'http_requests_total', help: 'HTTP requests answered', labelNames: LABELS });
const duration = new Histogram({
  name: 'http_request_duration_seconds',
  help: 'HTTP request duration',
  labelNames: LABELS,
  buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1, 2, 5],
});
const inFlight = new Gauge({ name: 'in_flight_requests', help: 'HTTP requests being answered' });

/**
 * Starts the counters of failures at 0, for all routes: Prometheus sees no increase in a counter that appears with a
 * value, so the first failures of each process would count for no alert.
 */
export function startFailureCountersAtZero({ httpAdapter }: HttpAdapterHost): void {
  const { router } = httpAdapter.getInstance<Application>();
  const routes = router.stack.flatMap(({ route }) => route ?? []);
  for (const { path, stack } of routes)
    for (const { method } of stack)
      for (const status_code of [500, 503]) requests.inc({ method: method.toUpperCase(), route: path, status_code }, 0);
  for (const method of ['GET', 'POST']) countShed(method, 0);
}

/** Counts, times, logs and traces each request. Routes appear as templates, so that labels and logs contain no ids. */
export function httpTelemetry(spans: Spans): RequestHandler {
  const logger = new Logger('http');
  return (req, res, next) => {
    const start = performance.now();
    const context = currentContext() ?? newContext();
    inFlight.inc();
    res.once('close', () => {
      const seconds = (performance.now() - start) / 1_000;
      const route = (req.route as { path?: string } | undefined)?.path ?? UNMATCHED;
      const status = res.writableFinished ? res.statusCode : CLIENT_CLOSED_REQUEST;
      const labels = { method: req.method, route, status_code: status };
      inFlight.dec();
      requests.inc(labels);
      duration.observe(labels, seconds);
      if (OPERATIONAL_PATHS.test(req.path)) return;
      const line = {
        method: req.method,
        route,
        statusCode: status,
        durationMs: Math.round(seconds * 1_000_000) / 1_000,
        code: res.locals['errorCode'] as string | undefined,
        reason: res.locals['authFailure'] as string | undefined,
      };
      if (spans.has(context.trace)) spans.add(context.trace, serverSpan(req, context, start, line));
      runInContext(context, () => {
        if (status >= 500) logger.error(line, 'Request failed');
        else if (status >= 400) logger.warn(line, 'Request refused');
        else logger.log(line, 'Request completed');
      });
    });
    next();
  };
}

/** Without path and query, although the semantic conventions ask for them: they can contain personal data. */
function serverSpan(
  { method, protocol }: Request,
  { requestId, principal, orderId }: RequestContext,
  start: number,
  { route, statusCode, code }: { route: string; statusCode: number; code: string | undefined },
): EndedSpan {
  return {
    name: route === UNMATCHED ? method : `${method} ${route}`,
    kind: 'SERVER',
    start,
    attributes: {
      'http.request.method': method,
      'http.route': route === UNMATCHED ? undefined : route,
      'http.response.status_code': statusCode === CLIENT_CLOSED_REQUEST ? undefined : statusCode,
      'url.scheme': protocol,
      'app.request.id': requestId,
      'app.client.id': principal?.clientId,
      'app.order.id': orderId,
      'app.error.code': code,
    },
    error: failureOf(statusCode, code),
  };
}

/** A refusal (4xx) is no failure of ours; a response that the client did not wait for may be one. */
function failureOf(statusCode: number, code: string | undefined): string | undefined {
  if (statusCode === CLIENT_CLOSED_REQUEST) return 'client_closed';
  return statusCode >= 500 ? (code ?? String(statusCode)) : undefined;
}

/** Counts requests that load shedding refused before they were routed. */
export function countShed(method: string, count: number): void {
  requests.inc({ method, route: 'shed', status_code: 503 }, count);
}
