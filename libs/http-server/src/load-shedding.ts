import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Logger } from '@nestjs/common';
import { errorBody, PROBLEM, problemBody, ServiceError, wantsProblem } from '@platform/errors';
import { countShed, OPERATIONAL_PATHS } from '@platform/observability';
import { requestIdOf } from '@platform/request-context';
import { drainBeforeClosing } from './drain-before-closing';
import { HeldBytes } from './held-bytes';
import { API_HEADERS } from './http-surface.middleware';
import { BODY_BYTES, lateAdmissions } from './json-body.guard';
import { normalizeTarget } from './request-target';

/**
 * Requests in progress at the same time; at 2,000 a second each takes a fifth of a second. Even if all were orders, the
 * queue behind the batches in flight (`Batcher`) would hold them.
 */
const MAX_CONCURRENT = 384;
/** How many of them start before Node looks for new ones: about 20 ms of work, for which a refusal has to wait. */
const MAX_PER_TURN = 64;
/**
 * The same in a turn of the event loop in which a client has connected, since more may follow: Node accepts one
 * connection per turn, so the last of 256 clients that connect at once would have to wait for 256 long turns.
 */
const MAX_WHILE_CONNECTING = 16;
/** Node reads sockets while there is anything to read, perhaps for seconds. After this, waiting requests start. */
const MAX_READING_MS = 20;
/**
 * How many are refused in a turn. Refused clients often retry at once: if all were refused as they are read, Node would
 * never run out of sockets to read, and would come late to those with the database's answers.
 */
const MAX_REFUSED_PER_TURN = 512;
/** Requests that a client may pipeline on one connection; with more it is cut off. */
const MAX_PIPELINED = 16;
const REPORT_EVERY_MS = 1_000;
/** What Node holds of a file for a client that does not read. */
const STREAM_BYTES = 128 * 1024;

/**
 * Refuses requests while as many as can be answered in time are in progress, before anything is spent on them: with
 * `SERVICE_UNAVAILABLE` and `Retry-After`. Requests that arrive together are started over several turns of the event
 * loop, because answering a request takes ten times as long as receiving and refusing it. Probes and metrics are not
 * refused, and wait only for the responses before them on their connection.
 * @param isDraining whether clients should take their connections elsewhere
 */
export function shedLoad(server: Server, isDraining: () => boolean): void {
  const listeners = server.listeners('request') as RequestListener[];
  server.removeAllListeners('request');
  const start: RequestListener = (req, res) => {
    for (const listener of listeners) listener(req, res);
  };
  const admission = new Admission(start, isDraining);
  server.on('request', (req, res) => {
    normalizeTarget(req);
    admission.enqueue(req, res);
  });
  server.on('connection', () => admission.keepNextTurnShort());
}

class Admission {
  private readonly held = new HeldBytes();
  /** By connection: the response to its latest request, and how many requests wait for the responses before theirs. */
  private readonly pipelines = new WeakMap<Socket, { last: ServerResponse; ahead: number }>();
  private readonly waiting: [IncomingMessage, ServerResponse][] = [];
  /** To be refused in the next turns. */
  private readonly surplus: [IncomingMessage, ServerResponse][] = [];
  private inProgress = 0;
  private readingSince = 0;
  private isScheduled = false;
  private hasNewConnection = false;

  constructor(
    private readonly start: RequestListener,
    private readonly isDraining: () => boolean,
  ) {}

  keepNextTurnShort(): void {
    this.hasNewConnection = true;
  }

  /** A pipelined request starts when the response before it is closed: its own could not be sent until then. */
  enqueue(req: IncomingMessage, res: ServerResponse): void {
    const { socket } = req;
    if (socket.writableEnded) return void socket.destroy(); // sent after a drained body: no response can be sent
    const pipeline = this.pipelines.get(socket);
    if (!pipeline) {
      this.pipelines.set(socket, { last: res, ahead: 0 });
      return this.arrive(req, res);
    }
    const before = pipeline.last;
    pipeline.last = res;
    if (before.closed) return this.arrive(req, res);
    if (pipeline.ahead >= MAX_PIPELINED) return void socket.destroy();
    pipeline.ahead += 1;
    before.once('close', () => {
      pipeline.ahead -= 1;
      if (!socket.destroyed) this.arrive(req, res);
    });
  }

  private arrive(req: IncomingMessage, res: ServerResponse): void {
    if (OPERATIONAL_PATHS.test(req.url ?? '')) return this.start(req, res);
    const { waiting } = this;
    if (waiting.length > 0 && performance.now() - this.readingSince > MAX_READING_MS) this.startNext(MAX_PER_TURN);
    const isFull = waiting.length + this.inProgress >= MAX_CONCURRENT;
    (isFull ? this.surplus : waiting).push([req, res]);
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(this.processQueue);
  }

  private readonly processQueue = (): void => {
    this.startNext(this.hasNewConnection ? MAX_WHILE_CONNECTING : MAX_PER_TURN);
    this.hasNewConnection = false;
    for (const [req, res] of this.surplus.splice(0, MAX_REFUSED_PER_TURN)) {
      if (!res.destroyed) refuse(req, res, this.isDraining());
    }
    if (this.waiting.length + this.surplus.length > 0) setImmediate(this.processQueue);
    else this.isScheduled = false;
  };

  private startNext(count: number): void {
    this.readingSince = performance.now();
    for (const [req, res] of this.waiting.splice(0, count)) {
      if (res.destroyed) continue; // the client is gone
      if (req.complete) this.occupySlot(res);
      // A request whose body is still to come is no work yet, and the body may take long: it must not keep others out.
      else {
        drainBeforeClosing(req);
        this.holdBody(req, res);
        lateAdmissions.set(req, () => this.admitLate(res));
      }
      this.start(req, res);
    }
  }

  private admitLate(res: ServerResponse): boolean {
    const hasSlot = this.inProgress < MAX_CONCURRENT;
    if (hasSlot) this.occupySlot(res);
    return hasSlot;
  }

  private occupySlot(res: ServerResponse): void {
    if (res.destroyed) return; // no event would free the slot
    this.inProgress += 1;
    // Done when the response is complete: a client that takes long to read it must not keep others out either.
    let isDone = false;
    const freeSlot = () => {
      if (!isDone) this.inProgress -= 1;
      isDone = true;
    };
    // A file is read as fast as the client takes it, which may be never.
    res.on('pipe', () => {
      freeSlot();
      this.held.hold(res, STREAM_BYTES);
    });
    res.on('prefinish', () => {
      freeSlot();
      if (res.writableLength > 0) this.held.hold(res, res.writableLength);
    });
    res.on('close', () => {
      freeSlot();
      this.held.release(res);
    });
  }

  private holdBody(req: IncomingMessage, res: ServerResponse): void {
    this.held.hold(res, Math.min(Number(req.headers['content-length'] ?? BODY_BYTES), BODY_BYTES));
    const release = () => this.held.release(res);
    req.once('end', release);
    res.once('close', release);
  }
}

const logger = new Logger('http');
const REFUSAL = ServiceError.unavailable(undefined);
const [BEFORE_ID = '', AFTER_ID = ''] = JSON.stringify(errorBody(REFUSAL, '\0')).split('\\u0000');
const HEADERS = Object.entries({
  ...API_HEADERS,
  'Cache-Control': 'no-store',
  Vary: 'Accept',
  ...REFUSAL.headers,
}).flat();

/** How many requests were refused since the last report, by method. */
const refused = new Map<string, number>();

/** Does as little as possible: time spent here is taken from requests that are answered. */
function refuse(req: IncomingMessage, res: ServerResponse, isDraining: boolean): void {
  const requestId = requestIdOf(req.headers['x-request-id']);
  const isProblem = req.headers.accept?.includes('problem') === true && wantsProblem(req);
  const body = isProblem
    ? JSON.stringify(problemBody(REFUSAL, requestId, req.url?.split('?')[0] ?? ''))
    : BEFORE_ID + requestId + AFTER_ID;
  const headers = [...HEADERS, 'X-Request-Id', requestId, 'Content-Length', String(Buffer.byteLength(body))];
  headers.push('Content-Type', `${isProblem ? PROBLEM : 'application/json'}; charset=utf-8`);
  const isLong = Number(req.headers['content-length'] ?? 0) > BODY_BYTES || 'transfer-encoding' in req.headers;
  if (!req.complete) drainBeforeClosing(req);
  if (isDraining || isLong) headers.push('Connection', 'close'); // otherwise all of the body would have to be read
  res.writeHead(REFUSAL.status, headers).end(body);
  if (refused.size === 0) setTimeout(report, REPORT_EVERY_MS).unref();
  const method = req.method ?? '';
  refused.set(method, (refused.get(method) ?? 0) + 1);
}

function report(): void {
  let sum = 0;
  for (const [method, count] of refused) {
    countShed(method, count);
    sum += count;
  }
  logger.warn({ refused: sum, code: REFUSAL.code }, 'Requests refused: too many at once');
  refused.clear();
}
