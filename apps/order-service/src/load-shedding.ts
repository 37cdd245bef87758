import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { Logger } from '@nestjs/common';
import { errorBody, ServiceError } from '@platform/errors';
import { countShed } from '@platform/observability';
import { requestIdOf } from '@platform/request-context';
import { API_HEADERS } from './http-surface.middleware';

/**
 * Requests of clients that are answered at the same time; at 2,000 a second each takes a fifth of one. Were all of them
 * orders, they would just fit in the batches under way and the queue behind them (`GroupCommit`).
 */
const MOST_AT_ONCE = 384;
/** Of those, how many begin before Node looks for new ones: about 20 ms of work, which who is refused has to wait for. */
const MOST_IN_A_TURN = 64;
/** Node looks for new ones as long as there are any, which may be for seconds. Work goes on after so many milliseconds. */
const LONGEST_LOOK_MS = 20;
const REPORT_EVERY_MS = 1_000;

/** Probes and metrics are needed most when there is too much to do. */
const isShedable = (req: IncomingMessage) => req.url?.startsWith('/v1/') ?? false;

/**
 * Refuses requests while as many as can be answered in time are under way, before anything is spent on them: with
 * `SERVICE_UNAVAILABLE` and `Retry-After`. What comes in together begins in turns, because to answer a request takes
 * ten times as long as to see that there is one, and to refuse it.
 */
export function shedLoad(server: Server): void {
  const listeners = server.listeners('request') as RequestListener[];
  server.removeAllListeners('request');
  const waiting: [IncomingMessage, ServerResponse][] = [];
  let atOnce = 0;
  let lookingSince = 0;
  let isScheduled = false;

  const takeTurn = () => {
    lookingSince = performance.now();
    for (const request of waiting.splice(0, MOST_IN_A_TURN)) for (const listener of listeners) listener(...request);
  };
  const takeTurns = () => {
    takeTurn();
    if (waiting.length > 0) setImmediate(takeTurns);
    else isScheduled = false;
  };

  server.on('request', (req, res) => {
    if (waiting.length > 0 && performance.now() - lookingSince > LONGEST_LOOK_MS) takeTurn();
    if (isShedable(req)) {
      if (atOnce >= MOST_AT_ONCE) return refuse(req, res);
      atOnce += 1;
      res.once('close', () => (atOnce -= 1));
    }
    waiting.push([req, res]);
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(takeTurns);
  });
}

const logger = new Logger('http');
const REFUSAL = ServiceError.unavailable(undefined);
const [BEFORE_ID = '', AFTER_ID = ''] = JSON.stringify(errorBody(REFUSAL, '\0')).split('\\u0000');
const HEADERS = Object.entries({
  ...API_HEADERS,
  'Content-Type': 'application/json; charset=utf-8',
  'Cache-Control': 'no-store',
  ...REFUSAL.headers,
}).flat();

let refused = 0;

/** As little as can be done: what is spent here is taken from those that are answered. */
function refuse(req: IncomingMessage, res: ServerResponse): void {
  const requestId = requestIdOf(req.headers['x-request-id']);
  const body = BEFORE_ID + requestId + AFTER_ID;
  res.writeHead(REFUSAL.status, [...HEADERS, 'X-Request-Id', requestId, 'Content-Length', String(body.length)]);
  res.end(body);
  countShed(req.method ?? '');
  refused += 1;
  if (refused > 1) return;
  setTimeout(() => {
    logger.warn({ refused, code: REFUSAL.code }, 'requests refused: too many at once');
    refused = 0;
  }, REPORT_EVERY_MS).unref();
}
