import { Logger } from '@nestjs/common';
import { currentContext, newContext, runInContext } from '@platform/request-context';
import type { RequestHandler } from 'express';
import { Counter, Gauge, Histogram } from 'prom-client';

const LABELS = ['method', 'route', 'status_code'] as const;

/** nginx's number for a client that went away before it had its answer. */
const CLIENT_CLOSED_REQUEST = 499;

/** The paths of probes and metrics: they come all the time, and are needed most when there is too much to do. */
export const FOR_OPERATORS = /^\/(health\/|metrics$)/;

const requests = new Counter({ name: 'http_requests_total', help: 'HTTP requests answered', labelNames: LABELS });
const duration = new Histogram({
  name: 'http_request_duration_seconds',
  help: 'HTTP request duration',
  labelNames: LABELS,
  buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1, 2, 5],
});
const inFlight = new Gauge({ name: 'in_flight_requests', help: 'HTTP requests being answered' });

/** Counts, times and logs each request. Routes appear as templates, so that labels and logs hold no id. */
export function httpTelemetry(): RequestHandler {
  const logger = new Logger('http');
  return (req, res, next) => {
    const start = performance.now();
    const context = currentContext() ?? newContext();
    inFlight.inc();
    res.once('close', () => {
      const seconds = (performance.now() - start) / 1_000;
      const route = (req.route as { path?: string } | undefined)?.path ?? 'unmatched';
      const status = res.writableFinished ? res.statusCode : CLIENT_CLOSED_REQUEST;
      const labels = { method: req.method, route, status_code: status };
      inFlight.dec();
      requests.inc(labels);
      duration.observe(labels, seconds);
      if (FOR_OPERATORS.test(req.path)) return;
      const line = {
        method: req.method,
        route,
        statusCode: status,
        durationMs: Math.round(seconds * 1_000_000) / 1_000,
        code: res.locals['errorCode'] as string | undefined,
      };
      runInContext(context, () => {
        if (status >= 500) logger.error(line, 'request failed');
        else if (status >= 400) logger.warn(line, 'request refused');
        else logger.log(line, 'request completed');
      });
    });
    next();
  };
}

/** Counts requests that were refused before they had a route, because there was too much to do. */
export function countShed(method: string, count: number): void {
  requests.inc({ method, route: 'shed', status_code: 503 }, count);
}
