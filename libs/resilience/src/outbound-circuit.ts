import { AsyncLocalStorage } from 'node:async_hooks';
import { EventEmitter } from 'node:events';
import { Logger } from '@nestjs/common';
import type { OutboundSettings } from '@platform/config';
import CircuitBreaker from 'opossum';
import type { Gauge } from 'prom-client';
import { OutboundFailure } from './outbound-failure';
import type { OutboundResponse } from './outbound-request';

const STATES = { closed: 0, halfOpen: 1, open: 2 } as const;

/** The statistics window slides in this many steps. */
const WINDOW_PARTS = 10;

/** How long the caller that was woken for the probe has to start it. */
const PROBE_START_MS = 100;

/** opossum opens only above its threshold, so 100 % would never open it. Less than the weight of one attempt. */
const THRESHOLD_EPSILON = 0.001;

/** What decides who gets the probe; see {@link OutboundClient.ready}. */
export interface Claim {
  readonly group: string;
  readonly failures: number;
}

/** A circuit breaker: opens if too many recent attempts failed, and lets none through while open. */
export class OutboundCircuit {
  private readonly logger = new Logger(OutboundCircuit.name);
  private readonly breaker: CircuitBreaker<[() => Promise<OutboundResponse>], OutboundResponse>;
  /** Logs outside the context of whichever request came last: the state concerns the dependency. */
  private readonly outside = AsyncLocalStorage.snapshot();
  private readonly window = new EventEmitter();
  private readonly windowTimer: NodeJS.Timeout;
  /** Callers of {@link ready}, in order of arrival: how to wake each. */
  private readonly waiting = new Map<() => void, Claim>();
  /** How many probes of each group have failed since the circuit was last closed. */
  private readonly lostProbes = new Map<string, number>();
  /** The group of the caller that was last woken for a probe. */
  private probing = '';
  private state: keyof typeof STATES = 'closed';

  constructor(
    private readonly name: string,
    private readonly settings: OutboundSettings['breaker'],
    private readonly gauge: Gauge<'name'>,
  ) {
    this.breaker = new CircuitBreaker((attempt) => attempt(), {
      timeout: false,
      errorThresholdPercentage: settings.failurePercent - THRESHOLD_EPSILON,
      volumeThreshold: settings.minCalls,
      rollingCountTimeout: settings.windowMs,
      rollingCountBuckets: WINDOW_PARTS,
      rotateBucketController: this.window,
      resetTimeout: settings.openMs,
      // Unused, and it would sort all latencies at each failure.
      rollingPercentilesEnabled: false,
      enableSnapshots: false,
      // Aborted attempts say nothing about the dependency. But opossum counts a filtered error as a success, which
      // closes a half-open circuit without any response: so an aborted probe counts as failed.
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

  /** While half-open, only one attempt is let through: the probe. */
  get letsThrough(): boolean {
    return this.breaker.closed || (this.breaker.halfOpen && this.breaker.pendingClose);
  }

  /** Makes and judges an attempt. Only to be called if {@link letsThrough}: opossum would count the rejection. */
  run(attempt: () => Promise<OutboundResponse>): Promise<OutboundResponse> {
    return this.breaker.fire(attempt);
  }

  async ready(signal?: AbortSignal, claim: Claim = { group: '', failures: 0 }): Promise<void> {
    signal?.throwIfAborted();
    while (!this.letsThrough) {
      if (this.breaker.isShutdown) throw new OutboundFailure(this.name, 'aborted', { wasSent: false });
      const { promise, resolve } = Promise.withResolvers<void>();
      const wake = () => resolve();
      this.waiting.set(wake, claim);
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
    if (this.state === 'halfOpen' && state === 'open') this.lostProbes.set(this.probing, this.lostBy(this.probing) + 1);
    // Not for a failed probe, which opens the circuit again.
    if (state === 'open' && this.state === 'closed') {
      this.logger.warn(
        { dependency: this.name, openMs: this.settings.openMs },
        'The circuit opened: too many calls failed, and none is made until a probe succeeds',
      );
    }
    if (state === 'closed') {
      this.logger.log({ dependency: this.name }, 'The circuit closed: calls are made again');
      this.lostProbes.clear();
      // Clears the window: otherwise the earlier failures would make the next one open the circuit again.
      for (let part = 0; part < WINDOW_PARTS; part += 1) this.window.emit('rotate');
    }
    this.state = state;
    this.gauge.set({ name: this.name }, STATES[state]);
    if (state === 'closed') this.wakeWaiting();
    if (state === 'halfOpen') this.wakeNext();
  }

  /** Wakes one caller for the probe, and the next one if that has not started it in time. */
  private wakeNext(): void {
    if (!this.breaker.halfOpen || !this.letsThrough) return;
    const [next] = [...this.waiting].sort(
      ([, a], [, b]) => this.lostBy(a.group) - this.lostBy(b.group) || a.failures - b.failures,
    );
    if (!next) return;
    const [wake, { group }] = next;
    this.probing = group;
    wake();
    setTimeout(() => this.wakeNext(), PROBE_START_MS).unref();
  }

  private lostBy(group: string): number {
    return this.lostProbes.get(group) ?? 0;
  }

  private wakeWaiting(): void {
    for (const wake of this.waiting.keys()) wake();
  }
}

function isFaultOfDependency(error: unknown): boolean {
  return error instanceof OutboundFailure && error.kind !== 'aborted';
}
