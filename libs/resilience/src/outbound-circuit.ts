import { AsyncLocalStorage } from 'node:async_hooks';
import { EventEmitter } from 'node:events';
import { Logger } from '@nestjs/common';
import type { OutboundSettings } from '@platform/config';
import CircuitBreaker from 'opossum';
import type { Gauge } from 'prom-client';
import { OutboundFailure } from './outbound-failure';
import type { OutboundAnswer } from './outbound-request';

const STATES = { closed: 0, halfOpen: 1, open: 2 } as const;

/** The window moves on by one of these at a time. */
const WINDOW_PARTS = 10;

/** How long the caller that is woken for the probe has to make it. */
const HAND_ON_MS = 100;

/** opossum opens only above its threshold, so that 100 % would never open it. Less than one attempt can weigh. */
const JUST_BELOW = 0.001;

/** Knows from the attempts of the last while whether a dependency is down, and lets none through while it is. */
export class OutboundCircuit {
  private readonly logger = new Logger(OutboundCircuit.name);
  private readonly breaker: CircuitBreaker<[() => Promise<OutboundAnswer>], OutboundAnswer>;
  /** What it logs is about the dependency, and not about the request that came last. */
  private readonly outside = AsyncLocalStorage.snapshot();
  private readonly window = new EventEmitter();
  private readonly windowTimer: NodeJS.Timeout;
  /** How often each has failed who waits, by how it is woken; in the order of their coming. */
  private readonly waiting = new Map<() => void, number>();
  private state: keyof typeof STATES = 'closed';

  constructor(
    private readonly name: string,
    private readonly settings: OutboundSettings['breaker'],
    private readonly gauge: Gauge<'name'>,
  ) {
    this.breaker = new CircuitBreaker((attempt) => attempt(), {
      timeout: false,
      errorThresholdPercentage: settings.failurePercent - JUST_BELOW,
      volumeThreshold: settings.minCalls,
      rollingCountTimeout: settings.windowMs,
      rollingCountBuckets: WINDOW_PARTS,
      rotateBucketController: this.window,
      resetTimeout: settings.openMs,
      // Sorting all latencies at each failure is work for nobody.
      rollingPercentilesEnabled: false,
      enableSnapshots: false,
      // To opossum an error that is filtered out is a success, which would close a half-open circuit without any
      // answer: a probe that was aborted leaves it open.
      errorFilter: (error) => !this.breaker.halfOpen && !isFaultOfDependency(error),
    });
    this.breaker.on('open', () => this.outside(() => this.enter('open')));
    this.breaker.on('halfOpen', () => this.outside(() => this.enter('halfOpen')));
    this.breaker.on('close', () => this.outside(() => this.enter('closed')));
    this.windowTimer = setInterval(() => this.window.emit('rotate'), settings.windowMs / WINDOW_PARTS).unref();
    gauge.set({ name }, STATES.closed);
  }

  get isOpen(): boolean {
    return this.breaker.opened;
  }

  /** Half-open, only one attempt is let through: the probe that decides. */
  get letsThrough(): boolean {
    return this.breaker.closed || (this.breaker.halfOpen && this.breaker.pendingClose);
  }

  /** Makes and judges an attempt. Only to be called while the circuit lets through: opossum counts what it rejects. */
  run(attempt: () => Promise<OutboundAnswer>): Promise<OutboundAnswer> {
    return this.breaker.fire(attempt);
  }

  async ready(signal?: AbortSignal, failures = 0): Promise<void> {
    signal?.throwIfAborted();
    while (!this.letsThrough) {
      if (this.breaker.isShutdown) throw new OutboundFailure(this.name, 'aborted', { wasSent: false });
      const { promise, resolve } = Promise.withResolvers<void>();
      const wake = () => resolve();
      this.waiting.set(wake, failures);
      signal?.addEventListener('abort', wake);
      await promise;
      this.waiting.delete(wake);
      signal?.removeEventListener('abort', wake);
      signal?.throwIfAborted();
    }
  }

  shutDown(): void {
    clearInterval(this.windowTimer);
    this.breaker.shutdown();
    this.wakeWaiting();
  }

  private enter(state: keyof typeof STATES): void {
    // A failed probe opens it again: nothing new.
    if (state === 'open' && this.state === 'closed') {
      this.logger.warn({ dependency: this.name, openMs: this.settings.openMs }, 'The circuit opened');
    }
    if (state === 'closed') {
      this.logger.log({ dependency: this.name }, 'The circuit closed');
      // opossum keeps the failures of before, and the next one would open it again.
      for (let part = 0; part < WINDOW_PARTS; part += 1) this.window.emit('rotate');
    }
    this.state = state;
    this.gauge.set({ name: this.name }, STATES[state]);
    if (state === 'closed') this.wakeWaiting();
    if (state === 'halfOpen') this.wakeNext();
  }

  /** One at a time for the probe; the next when that one has made none. */
  private wakeNext(): void {
    if (!this.breaker.halfOpen || !this.letsThrough) return;
    const [next] = [...this.waiting].sort(([, a], [, b]) => a - b);
    if (!next) return;
    next[0]();
    setTimeout(() => this.wakeNext(), HAND_ON_MS).unref();
  }

  private wakeWaiting(): void {
    for (const wake of this.waiting.keys()) wake();
  }
}

function isFaultOfDependency(error: unknown): boolean {
  return error instanceof OutboundFailure && error.kind !== 'aborted';
}
