import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { Database } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { newContext, runInContext } from '@platform/request-context';
import type { EntityManager } from 'typeorm';

const MOST_EVENTS = 100;
/** At once, in one process: each takes a connection of the pool, and requests need some too. */
const MOST_TRANSACTIONS = 2;

/** What an event causes, within the transaction in which it is noted. */
type Effect = (tx: EntityManager) => Promise<void>;

interface Waiting {
  readonly consumer: string;
  readonly eventId: string;
  readonly effect: Effect;
  readonly resolve: (isFirst: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Notes which events were consumed. Events that arrive together share a transaction, and with it the round trips and the
 * wait for the disk. When one of them fails, each gets a transaction of its own, so that none suffers from another.
 */
@Injectable()
export class Inbox {
  private readonly waiting: Waiting[] = [];
  private transactions = 0;

  constructor(private readonly database: Database) {}

  /**
   * Has the effect of an event and notes its id, both or neither.
   * @param effect may be run again after it failed, or after another event did: it must do nothing outside of `tx` that
   *   cannot be done twice
   * @returns false when the consumer had the event before: then there is no effect
   */
  once(consumer: string, eventId: string, effect: Effect): Promise<boolean> {
    return new Promise((resolve, reject) => {
      // The transaction is not run in the context of this event.
      this.waiting.push({ consumer, eventId, effect: AsyncLocalStorage.bind(effect), resolve, reject });
      if (this.transactions < MOST_TRANSACTIONS) void runInContext(newContext(), () => this.work());
    });
  }

  private async work(): Promise<void> {
    this.transactions += 1;
    await setImmediate(); // those who come with the first one go with it
    while (this.waiting.length > 0) await this.settle(this.waiting.splice(0, MOST_EVENTS));
    this.transactions -= 1;
  }

  /** @returns false when the database is away */
  private async settle(events: readonly Waiting[]): Promise<boolean> {
    try {
      const first = await this.database.inTransaction((tx) => haveEffects(tx, events));
      for (const event of events) event.resolve(first.has(event));
      return true;
    } catch (error) {
      const isAway = error instanceof ServiceError && error.code === 'SERVICE_UNAVAILABLE';
      if (events.length === 1 || isAway) {
        for (const { reject } of events) reject(error);
        return !isAway;
      }
      for (const [place, event] of events.entries()) {
        if (await this.settle([event])) continue;
        for (const { reject } of events.slice(place + 1)) reject(ServiceError.unavailable(error));
        return false;
      }
      return true;
    }
  }
}

/** @returns the events that were new */
async function haveEffects(tx: EntityManager, events: readonly Waiting[]): Promise<Set<Waiting>> {
  const noted = await tx.query<{ consumer: string; event_id: string }[]>(
    // In one order: two processes that have the same events for a while would else lock each other out.
    `INSERT INTO inbox (consumer, event_id)
     SELECT * FROM unnest($1::text[], $2::text[]) ORDER BY 1, 2
     ON CONFLICT DO NOTHING RETURNING consumer, event_id`,
    [events.map(({ consumer }) => consumer), events.map(({ eventId }) => eventId)],
  );
  const first = new Set<Waiting>();
  for (const { consumer, event_id } of noted) {
    const event = events.find((event) => event.consumer === consumer && event.eventId === event_id);
    if (event) first.add(event);
  }
  for (const event of events) if (first.has(event)) await event.effect(tx);
  return first;
}
