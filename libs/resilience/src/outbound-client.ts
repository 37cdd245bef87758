import { setTimeout as delay } from 'node:timers/promises';
import type { OnApplicationShutdown } from '@nestjs/common';
import type { OutboundSettings } from '@platform/config';
import {
  childOf,
  currentContext,
  newContext,
  type RequestContext,
  type TraceContext,
  traceparent,
} from '@platform/request-context';
import type { EndedSpan, Spans } from '@platform/tracing';
import { Bulkhead } from './bulkhead';
import { type Claim, OutboundCircuit } from './outbound-circuit';
import { OutboundConnections, type OutboundMessage } from './outbound-connections';
import { OutboundFailure, type OutboundFailureKind } from './outbound-failure';
import type { OutboundMetrics, OutboundOutcome } from './outbound-metrics';
import type { OutboundRequest, OutboundResponse } from './outbound-request';
import { OutboundToken } from './outbound-token';
import { parseRetryAfter, retryPauseMs } from './retry-pause';

/** Idempotent methods (RFC 9110 section 9.2.2). */
const IDEMPOTENT_METHODS = new Set<OutboundRequest['method']>(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);
const RETRIED_KINDS = new Set<OutboundFailureKind>(['timeout', 'network', 'status', 'no_token']);
/** The 4xx that count as failures and may be retried: request timeout, too early, too many requests. */
const RETRYABLE_STATUSES = new Set([408, 425, 429]);

/** Calls one dependency over HTTP: within a deadline, with retries where safe, and not while its circuit is open. */
export class OutboundClient implements OnApplicationShutdown {
  private readonly circuit: OutboundCircuit;
  private readonly connections: OutboundConnections;
  private readonly token: OutboundToken | undefined;
  private readonly stop = new AbortController();
  private readonly bulkhead: Bulkhead;

  constructor(
    private readonly name: string,
    private readonly settings: OutboundSettings,
    private readonly metrics: OutboundMetrics,
    private readonly spans: Spans,
  ) {
    this.circuit = new OutboundCircuit(name, settings.breaker, metrics.circuitState);
    this.bulkhead = new Bulkhead(settings.maxConcurrent);
    this.connections = new OutboundConnections(name, settings);
    this.token = settings.token && new OutboundToken(name, settings.token, settings.attemptTimeoutMs);
  }

  /**
   * Resolves with every response below 500 except 408, 425, 429, and 401 if the dependency is called with a token.
   * @throws {OutboundFailure} otherwise, after the retries that are allowed and fit into the deadline
   */
  async request(request: OutboundRequest): Promise<OutboundResponse> {
    const { signal, attemptTimeoutMs = this.settings.attemptTimeoutMs } = request;
    const deadline = performance.now() + Math.max(this.settings.deadlineMs, request.attemptTimeoutMs ?? 0);
    const mayRetry = IDEMPOTENT_METHODS.has(request.method) || request.idempotencyKey !== undefined;
    const maxAttempts = mayRetry ? this.settings.maxAttempts : 1;
    const body = request.body === undefined ? undefined : JSON.stringify(request.body);
    const { requestId, trace: parent } = currentContext() ?? newContext();
    let timeoutMs = Math.min(attemptTimeoutMs, deadline - performance.now());
    let wasSent = false;
    for (let attempts = 1; ; attempts += 1) {
      const { method, path } = request;
      const trace = childOf(parent); // so that attempts are separate spans in the dependency's traces
      const headers = headersOf(request, { requestId, trace });
      const message = { method, path, headers, body };
      let failure: OutboundFailure;
      try {
        return await this.attempt(message, trace, { timeoutMs, deadline }, request);
      } catch (error) {
        if (!(error instanceof OutboundFailure)) throw error;
        wasSent ||= error.wasSent;
        failure = new OutboundFailure(this.name, error.kind, { ...error, wasSent });
      }
      if (attempts >= maxAttempts || !RETRIED_KINDS.has(failure.kind)) throw failure;
      const pauseMs = retryPauseMs(attempts, this.settings, failure.retryAfterMs);
      if (performance.now() + pauseMs >= deadline) throw failure;
      const end = signal ? AbortSignal.any([signal, this.stop.signal]) : this.stop.signal;
      await delay(pauseMs, undefined, { signal: end }).catch(() => undefined);
      timeoutMs = Math.min(attemptTimeoutMs, deadline - performance.now());
      if (timeoutMs <= 0) throw failure;
    }
  }

  /** Whether the circuit would let a request through. */
  get isReady(): boolean {
    return this.circuit.letsThrough;
  }

  /**
   * Waits while the circuit is open: for background jobs, which thus save their attempts. When a probe is due, it is
   * left to the waiting caller whose group has lost the fewest probes, among those to the one with the fewest failures,
   * and among those to the first: requests that always fail would keep the circuit open for all others. Nothing is
   * reserved, so a request may still fail with `circuit_open`.
   * @param claim on whose behalf the request is made, for example a tenant's, and how often it has failed so far
   * @throws the reason of `signal` if it aborts
   * @throws {OutboundFailure} `aborted` if the process shuts down
   */
  async ready(signal?: AbortSignal, claim?: Claim): Promise<void> {
    await this.circuit.ready(signal, claim);
  }

  /** @throws {Error} while the circuit is open */
  assertCircuitNotOpen(): void {
    if (this.circuit.isOpen) throw new Error('the circuit is open: too many attempts failed');
  }

  /** Starts no further attempts, and waits for those under way. */
  async onApplicationShutdown(): Promise<void> {
    this.stop.abort();
    this.circuit.shutDown();
    this.bulkhead.close();
    await Promise.all([this.connections.close(), this.token?.close()]);
  }

  private async attempt(
    message: OutboundMessage,
    trace: TraceContext,
    { timeoutMs, deadline }: { timeoutMs: number; deadline: number },
    { signal, isExpected = () => true }: Pick<OutboundRequest, 'signal' | 'isExpected'>,
  ): Promise<OutboundResponse> {
    try {
      const answer = await this.inBulkhead(deadline - performance.now() - timeoutMs, signal, () =>
        this.circuit.run(() => this.exchangeWithToken(message, trace, timeoutMs, signal)),
      );
      if (RETRYABLE_STATUSES.has(answer.status)) throw this.statusFailure(answer);
      const outcome = answer.status >= 400 ? 'refused' : isExpected(answer) ? 'success' : 'unexpected';
      this.metrics.requests.inc({ outcome });
      return answer;
    } catch (error) {
      if (error instanceof OutboundFailure) this.metrics.requests.inc({ outcome: outcomeOf(error) });
      throw error;
    }
  }

  /**
   * Refusals say nothing about the dependency, so they are made before the circuit counts.
   * @param maxWaitMs for a place: what the deadline leaves beside the attempt, which would otherwise be cut short
   */
  private async inBulkhead<T>(
    maxWaitMs: number,
    signal: AbortSignal | undefined,
    attempt: () => Promise<T>,
  ): Promise<T> {
    this.assertAdmitted(signal);
    const hasPlace = this.bulkhead.tryEnter() || (await this.bulkhead.waitToEnter(maxWaitMs, signal));
    try {
      this.assertAdmitted(signal); // the circuit may have opened during the wait
      if (!hasPlace) throw new OutboundFailure(this.name, 'bulkhead_full', { wasSent: false });
      return await attempt();
    } finally {
      if (hasPlace) this.bulkhead.leave();
    }
  }

  private assertAdmitted(signal?: AbortSignal): void {
    this.assertNotAborted(signal);
    if (!this.circuit.letsThrough) throw new OutboundFailure(this.name, 'circuit_open', { wasSent: false });
  }

  private assertNotAborted(signal?: AbortSignal): void {
    if (signal?.aborted || this.stop.signal.aborted)
      throw new OutboundFailure(this.name, 'aborted', { wasSent: false });
  }

  private async exchangeWithToken(
    message: OutboundMessage,
    trace: TraceContext,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<OutboundResponse> {
    const start = performance.now();
    const token = await this.token?.get(timeoutMs, signal);
    if (token !== undefined) message.headers['authorization'] = `Bearer ${token}`;
    this.assertNotAborted(signal); // it may have been aborted meanwhile
    const leftMs = Math.max(1, timeoutMs - (performance.now() - start));
    const answer = await this.exchange(message, trace, leftMs, signal);
    const isRefused = token !== undefined && answer.status === 401;
    if (isRefused) this.token?.refused(token);
    if (isRefused || answer.status >= 500) throw this.statusFailure(answer);
    return answer;
  }

  private async exchange(
    message: OutboundMessage,
    trace: TraceContext,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<OutboundResponse> {
    const start = performance.now();
    const observe = this.metrics.duration.startTimer();
    let outcome: OutboundResponse | OutboundFailure | undefined;
    try {
      outcome = await this.connections.exchange(message, timeoutMs, signal);
      return outcome;
    } catch (error) {
      if (error instanceof OutboundFailure) outcome = error;
      throw error;
    } finally {
      observe();
      if (this.spans.has(trace)) this.spans.add(trace, this.clientSpan(message, start, outcome));
    }
  }

  /** Without the query, although the semantic conventions ask for it: it can contain personal data. */
  private clientSpan(
    { method, path }: OutboundMessage,
    start: number,
    outcome: OutboundResponse | OutboundFailure | undefined,
  ): EndedSpan {
    const { protocol, hostname, port } = new URL(this.settings.url);
    const status = outcome?.status;
    const failure = outcome === undefined ? 'not_sent' : outcome instanceof OutboundFailure ? outcome.kind : undefined;
    return {
      name: method,
      kind: 'CLIENT',
      start,
      attributes: {
        'http.request.method': method,
        'http.response.status_code': status,
        'server.address': hostname.replace(/[[\]]/g, ''), // without the brackets of IPv6
        'server.port': Number(port || (protocol === 'https:' ? 443 : 80)),
        'url.full': this.settings.url.replace(/\/$/, '') + path.replace(/\?.*$/, ''),
        'peer.service': this.name,
      },
      error: status !== undefined && status >= 400 ? String(status) : failure,
    };
  }

  private statusFailure({ status, headers }: OutboundResponse): OutboundFailure {
    const retryAfterMs = parseRetryAfter(headers['retry-after']);
    return new OutboundFailure(this.name, 'status', { wasSent: true, status, retryAfterMs });
  }
}

function headersOf(
  { body, headers, idempotencyKey }: OutboundRequest,
  { requestId, trace }: Pick<RequestContext, 'requestId' | 'trace'>,
) {
  return {
    accept: 'application/json',
    ...(body && { 'content-type': 'application/json' }),
    ...Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), value])),
    ...(idempotencyKey !== undefined && { 'idempotency-key': idempotencyKey }),
    traceparent: traceparent(trace),
    'x-request-id': requestId,
  };
}

function outcomeOf({ kind, status = 0 }: OutboundFailure): OutboundOutcome {
  if (kind === 'network') return 'network_error';
  if (kind === 'status') return status < 500 ? 'refused' : 'failed';
  return kind;
}
