import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable, Logger } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { Database, type Transaction } from '@platform/database';
import { JobQueue, JobRunner, type JobSignals } from '@platform/jobs';
import type { ConsumedEvent } from '@platform/messaging';
import { OutboundFailure } from '@platform/resilience';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter } from 'prom-client';
import { type Effect, type Order, OrderLifecycleService } from '../orders/order-lifecycle.service';
import { nextStep } from './next-step';
import { type CallOptions, PaymentApi, UnexpectedAnswer } from './payment-api';
import { DUE_PAYMENT, type DuePayment, markAsked, PaymentStore } from './payment-store';

const TASK = 'process-payment';

/**
 * How long a job waits for the circuit to close: long enough to be there for a probe, which is made every 5 s by
 * default. Then this run ends, so that other jobs get its place, and the next one reads the order again first.
 */
const MAX_READY_WAIT_MS = 6_000;
/** Pause of a job when the limit of concurrent calls is reached, or the circuit has opened meanwhile. */
const BUSY_MS = 500;
const FIRST_BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 300_000;
/** The longest `Retry-After` of the payment API that is followed. */
const MAX_RETRY_AFTER_MS = 3_600_000;
/**
 * From this attempt on, after about 13 minutes, an operator has to look: voiding a payment, and asking about the
 * payment of an order that has ended, are retried for ever.
 */
const STUCK_ATTEMPTS = 10;
/** For an API that is merely slow, the time limit of an attempt doubles from run to run, up to this. */
const MAX_ATTEMPT_TIMEOUT_MS = 30_000;

interface Job {
  readonly orderId: string;
}

/**
 * Processes payments, each until its outcome is known. A run of the job does what {@link nextStep} says until nothing
 * is left to do. When the payment API gives no answer, the run ends and another one is enqueued for later.
 */
@Injectable()
export class PaymentsService {
  private readonly logger = new Logger(PaymentsService.name);
  private readonly markAsked: Effect;

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly database: Database,
    private readonly orders: OrderLifecycleService,
    private readonly payments: PaymentStore,
    private readonly api: PaymentApi,
    private readonly jobs: JobQueue,
    @InjectMetric('payment_stuck_attempts_total') private readonly stuck: Counter,
    runner: JobRunner,
  ) {
    this.markAsked = markAsked(config.paymentGiveUpMs);
    runner.handle<Job>(TASK, ({ orderId }, signals) => this.advance(orderId, signals));
  }

  /**
   * Enqueues a job for each order that is new or has changed, in the transaction that notes the events.
   * @throws as {@link PaymentStore.add}
   */
  async enqueue(tx: Transaction, events: readonly ConsumedEvent[]): Promise<void> {
    const jobs = events.map(({ subject, context }) => ({ payload: { orderId: subject } satisfies Job, context }));
    await this.payments.add(
      tx,
      events.map(({ subject }) => subject),
      TASK,
      jobs,
    );
  }

  private async advance(orderId: string, signals: JobSignals): Promise<void> {
    for (;;) {
      // Once marked, its customer cannot be erased, so that every attempt names the same one. So an order is not marked
      // while its call has to wait, which may be for as long as an outage.
      const mayCall = this.api.isReady && !signals.stopping.aborted;
      const marked = mayCall ? await this.orders.whilePending<DuePayment>(orderId, this.markAsked) : undefined;
      const payment = marked ?? (await this.orders.findWith<DuePayment>(orderId, DUE_PAYMENT));
      const step = nextStep(payment, this.config.paymentGiveUpMs);
      if (step === 'nothing') return;
      if (step === 'give-up') {
        this.logger.warn({ attempts: payment.attempts }, 'The payment stayed unknown; the order is rejected');
        await this.orders.reject(payment, 'payment_unknown');
        continue;
      }
      if (!marked && !(await this.waitUntilReady(signals, payment))) {
        // Other jobs must get their turn too, above all those that will give up, which need no call.
        return this.runAgain(orderId, signals.stopping.aborted ? 0 : MAX_READY_WAIT_MS * Math.random());
      }
      if (step === 'ask' && !payment.wasAsked) continue; // to be marked; the order may have ended during the wait
      if (!(await this.attempt(orderId, step, payment, signals.abort))) return;
    }
  }

  /** @returns false when the circuit stays open for too long, or when the process stops */
  private async waitUntilReady({ stopping, abort }: JobSignals, payment: Order & DuePayment): Promise<boolean> {
    const signal = AbortSignal.any([stopping, abort, AbortSignal.timeout(MAX_READY_WAIT_MS)]);
    return this.api.ready(signal, payment).then(
      () => true,
      () => false,
    );
  }

  /** @returns whether this run has more to do; if not, the payment is settled or another run is enqueued */
  private async attempt(
    orderId: string,
    step: 'ask' | 'void',
    payment: Order & DuePayment,
    signal: AbortSignal,
  ): Promise<boolean> {
    const answer = await this.call(orderId, step, payment, {
      attemptTimeoutMs: this.attemptTimeoutFor(payment),
      signal,
    }).catch((error: unknown) => {
      if (error instanceof OutboundFailure || error instanceof UnexpectedAnswer) return error;
      throw error;
    });
    if (!(answer instanceof Error)) {
      const changed = await (answer === 'voided'
        ? this.orders.markVoided(payment)
        : this.orders.applyPayment(payment, answer));
      const { ageMs } = payment;
      return nextStep({ ...changed, wasAsked: true, ageMs }, this.config.paymentGiveUpMs) !== 'nothing';
    }
    const { kind, wasSent } = answer instanceof OutboundFailure ? answer : { kind: undefined, wasSent: true };
    if (!wasSent && (kind === 'circuit_open' || kind === 'bulkhead_full')) {
      await delay(BUSY_MS * (0.5 + Math.random()));
      return true; // nothing was sent, so it is not counted
    }
    if (kind === 'aborted') {
      await this.runAgain(orderId, 0);
      return false;
    }
    const { attempts } = payment;
    const isStuck = attempts + 1 >= STUCK_ATTEMPTS;
    if (isStuck) this.stuck.inc();
    const details = { err: answer, step, attempts: attempts + 1 };
    const message = step === 'void' ? 'The payment is not voided' : 'The payment is unknown';
    this.logger[isStuck ? 'error' : 'warn'](details, `${message}; it is asked for again`);
    const backoffMs = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** attempts) * (1 + Math.random());
    const askedMs = Math.min(MAX_RETRY_AFTER_MS, answer.retryAfterMs ?? 0);
    const leftMs = payment.status === 'PENDING' ? this.config.paymentGiveUpMs - payment.ageMs : Infinity;
    const pauseMs = Math.min(leftMs, Math.max(backoffMs, askedMs));
    await this.runAgain(orderId, pauseMs, (tx) => this.payments.countAttempt(tx, orderId));
    return false;
  }

  private async call(orderId: string, step: 'ask' | 'void', order: Order, options: CallOptions) {
    const { customerId, currency, totalValue } = order;
    if (step === 'ask') {
      return this.api.authorize({ orderId, customerId, amount: { currency, value: totalValue } }, options);
    }
    if (order.paymentId === null) throw new Error('There is no payment to void');
    await this.api.void(orderId, order.paymentId, options);
    return 'voided' as const;
  }

  private attemptTimeoutFor({ attempts }: DuePayment): number {
    const { attemptTimeoutMs } = this.api;
    return Math.max(attemptTimeoutMs, Math.min(MAX_ATTEMPT_TIMEOUT_MS, attemptTimeoutMs * 2 ** attempts));
  }

  private async runAgain(orderId: string, delayMs: number, also?: (tx: Transaction) => Promise<void>): Promise<void> {
    await this.database.inTransaction(async (tx) => {
      await also?.(tx);
      await this.jobs.enqueueAgain(tx, TASK, { orderId } satisfies Job, { delayMs });
    });
  }
}
