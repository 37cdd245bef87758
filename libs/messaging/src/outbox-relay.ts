import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable, Logger } from '@nestjs/common';
import { BackgroundWork } from '@platform/background';
import { CONFIG, type Config } from '@platform/config';
import { isLocked } from '@platform/database';
import { HealthChecks } from '@platform/health';
import { orderIdOf } from '@platform/request-context';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Counter, Gauge } from 'prom-client';
import { EventPublisher, EventRefused } from './event-publisher';
import { OutboxSession } from './outbox-session';
import { eventIdOf, type StoredEvent } from './stored-event';

/** How long an idle relay waits before it looks again. */
const POLL_MS = 100;
/** From one read to the next if the first emptied the outbox: a batch costs much the same however small it is. */
const LINGER_MS = 20;
/** How often lanes are shared out and the backlog is measured. */
const UPKEEP_MS = 1_000;
/** Measuring the backlog takes at most one part in this many of the time. */
const MEASURE_PAUSE = 20;
const LAST_BATCH_MS = 3_000;
const MAX_BACKOFF_MS = 5_000;

/**
 * Takes committed events from the outbox to their destination: at least once, and in order per aggregate. An event is
 * marked only after it arrived, so if the process dies in between, it is sent again, with the same id. A process that
 * lives remembers what it could not mark.
 */
@Injectable()
export class OutboxRelay extends BackgroundWork {
  private readonly logger = new Logger(OutboxRelay.name);
  private failure: string | undefined = 'not started';
  private hasMeasured = false;
  private readonly unmarked = new Set<StoredEvent>();

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly publisher: EventPublisher,
    private readonly checks: HealthChecks,
    @InjectMetric('outbox_backlog') private readonly backlog: Gauge,
    @InjectMetric('outbox_oldest_age_seconds') private readonly oldestAge: Gauge,
    @InjectMetric('outbox_parked') private readonly parkedAggregates: Gauge,
    @InjectMetric('events_published_total') private readonly published: Counter<'type'>,
  ) {
    super();
  }

  protected async run(): Promise<void> {
    if (!this.config.outboxRelay) {
      if (!this.config.kafka) this.logger.warn('With OUTBOX_RELAY=off and without KAFKA_BROKERS no event is handled');
      return;
    }
    if (!this.config.kafka) {
      const isIntended = this.config.env !== 'production';
      this.logger[isIntended ? 'log' : 'warn']('Without KAFKA_BROKERS events go to the handlers in this process only');
    }
    this.checks.reported.set(this.config.kafka ? 'kafka' : 'outbox-relay', () =>
      this.failure === undefined ? Promise.resolve() : Promise.reject(new Error(this.failure)),
    );
    await this.relayWithRestarts();
  }

  /** A batch under way may finish, but not for long: what is not marked is sent again, by whoever holds the lane next. */
  override async onApplicationShutdown(): Promise<void> {
    await Promise.race([this.running, delay(LAST_BATCH_MS, undefined, { ref: false })]);
  }

  private async relayWithRestarts(): Promise<void> {
    let failures = 0;
    while (!this.stop.signal.aborted) {
      try {
        await this.relay(() => {
          failures = 0;
          this.failure = undefined;
        });
      } catch (error) {
        failures += 1;
        // A stale value, or a 0, would look current.
        if (!this.hasMeasured)
          for (const gauge of [this.backlog, this.oldestAge, this.parkedAggregates]) gauge.remove();
        this.failure = 'events cannot be published at the moment; they wait in the outbox';
        this.logger.warn({ err: error, failures }, 'The outbox relay failed; it starts anew');
        await this.pause(Math.min(MAX_BACKOFF_MS, 100 * 2 ** failures) * (0.5 + Math.random() / 2));
      }
    }
  }

  /** Relays until told to stop. Rejects when the database or the destination fails. */
  private async relay(onProgress: () => void): Promise<void> {
    this.hasMeasured = false;
    const session = await OutboxSession.open(this.config);
    try {
      let measureAt = 0;
      while (!this.stop.signal.aborted) {
        const now = performance.now();
        if (now >= measureAt) {
          await this.measure(session);
          // Counting a long backlog takes long, and nothing is relayed meanwhile.
          measureAt = now + Math.max(UPKEEP_MS, MEASURE_PAUSE * (performance.now() - now));
        }
        // What the last session could not mark: a database that can be read may take no writes for hours.
        if (this.unmarked.size > 0) await this.mark(session, [...this.unmarked]);
        await this.publisher.connect();
        await session.lanes.balance();
        await this.relayUntil(now + UPKEEP_MS, session, onProgress);
      }
    } finally {
      await session.close().catch(() => undefined);
    }
  }

  private async relayUntil(end: number, session: OutboxSession, onProgress: () => void): Promise<void> {
    const isOver = () => this.stop.signal.aborted || performance.now() >= end;
    do {
      const start = performance.now();
      let events = await session.read();
      const paceMs = events.length === 0 ? POLL_MS : LINGER_MS;
      if (events.length === 0) onProgress();
      let marking: Promise<void> | undefined;
      while (events.length > 0) {
        // In a backlog the next batch is read, and the last one marked, while this one is on its way.
        const [refusal, next] = await allOf([
          this.publish(events),
          this.markAndReadAhead(session, events, marking, isOver),
        ]);
        if (marking) onProgress(); // publishing alone is no progress: what cannot be marked is published again
        if (refusal) await this.isolateRefused(session, events, refusal, new Set());
        marking = refusal ? undefined : this.mark(session, events);
        // What was read ahead may belong to an aggregate that is parked now.
        events = refusal ? [] : next;
      }
      if (marking) await marking.then(onProgress);
      if (!isOver() && !session.hasMore) await this.pause(Math.max(0, start + paceMs - performance.now()));
    } while (!isOver());
  }

  private async markAndReadAhead(
    session: OutboxSession,
    underWay: readonly StoredEvent[],
    marking: Promise<void> | undefined,
    isOver: () => boolean,
  ): Promise<StoredEvent[]> {
    await marking;
    return session.hasMore && !isOver() ? session.read(underWay) : [];
  }

  /** @returns why the destination refused some of them for good; otherwise all are published */
  private async publish(events: StoredEvent[]): Promise<EventRefused | undefined> {
    try {
      await this.publisher.publish(events);
      for (const event of events) this.unmarked.add(event);
      return undefined;
    } catch (error) {
      if (error instanceof EventRefused) return error;
      throw error;
    }
  }

  /** Finds the refused events by bisection and parks their aggregates; publishes and marks all others. */
  private async isolateRefused(
    session: OutboxSession,
    events: StoredEvent[],
    refusal: EventRefused,
    parked: Set<string>,
  ): Promise<void> {
    const [first] = events;
    if (first && events.length === 1) {
      parked.add(first.aggregateid);
      const { type, aggregateid, request_id: requestId } = first;
      const about = { eventId: eventIdOf(first), type, orderId: orderIdOf(aggregateid), requestId };
      this.logger.error({ err: refusal, ...about }, 'An event was refused for good; its aggregate is parked');
      await session.park(first, refusal.message);
      return;
    }
    const middle = Math.ceil(events.length / 2);
    for (const half of [events.slice(0, middle), events.slice(middle)]) {
      const others = half.filter(({ aggregateid }) => !parked.has(aggregateid));
      if (others.length === 0) continue;
      const refused = await this.publish(others);
      if (refused) await this.isolateRefused(session, others, refused, parked);
      else await this.mark(session, others);
    }
  }

  private async mark(session: OutboxSession, events: readonly StoredEvent[]): Promise<void> {
    try {
      await session.markPublished(events);
    } catch (error) {
      // Those that others lock are published again, so that nothing waits for them; the rest is marked.
      if (isLocked(error)) this.forget(events);
      throw error;
    }
    this.forget(events);
    for (const { type } of events) this.published.inc({ type });
  }

  private forget(events: readonly StoredEvent[]): void {
    for (const event of events) this.unmarked.delete(event);
  }

  private async measure(session: OutboxSession): Promise<void> {
    const { backlog, oldestAge, parked } = await session.measure();
    if (backlog === undefined) this.backlog.remove();
    else this.backlog.set(backlog);
    this.oldestAge.set(oldestAge);
    this.parkedAggregates.set(parked);
    this.hasMeasured = true;
  }
}

/** As `Promise.all`, but when one rejects the others are awaited too, so that nothing goes on after a failure. */
async function allOf<T extends readonly unknown[]>(work: T): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
