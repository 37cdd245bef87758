import { AsyncLocalStorage } from 'node:async_hooks';
import { Injectable } from '@nestjs/common';
import { Batcher, Database } from '@platform/database';
import type { EntityManager } from 'typeorm';

/** What an event causes, within the transaction in which it is noted. */
type Effect = (tx: EntityManager) => Promise<void>;

interface Consumption {
  readonly consumer: string;
  readonly eventId: string;
  readonly effect: Effect;
  readonly alone: boolean;
}

/**
 * Notes which events were consumed. Events that arrive together share a transaction, and with it the round trips and the
 * wait for the disk. When one of them fails, each gets a transaction of its own, so that none suffers from another.
 */
@Injectable()
export class Inbox {
  private readonly consumptions: Batcher<Consumption, boolean>;

  constructor(database: Database) {
    this.consumptions = new Batcher(
      (events) => database.inTransaction((tx) => haveEffects(tx, events)),
      ({ alone }) => (alone ? Infinity : 1),
    );
  }

  /**
   * Has the effect of an event and notes its id, both or neither.
   * @param effect may be run again after it failed, or after another event did: it must do nothing outside of `tx` that
   *   cannot be done twice
   * @param options.alone for an event that has failed before, and would fail the others of its transaction again
   * @returns false when the consumer had the event before: then there is no effect
   */
  once(consumer: string, eventId: string, effect: Effect, { alone }: { alone: boolean }): Promise<boolean> {
    // The transaction is not run in the context of this event.
    return this.consumptions.add({ consumer, eventId, effect: AsyncLocalStorage.bind(effect), alone });
  }
}

/** @returns for each event whether it was new */
async function haveEffects(tx: EntityManager, events: readonly Consumption[]): Promise<boolean[]> {
  const noted = await tx.query<{ consumer: string; event_id: string }[]>(
    // In one order: two processes that have the same events for a while would else lock each other out.
    `INSERT INTO inbox (consumer, event_id)
     SELECT * FROM unnest($1::text[], $2::text[]) ORDER BY 1, 2
     ON CONFLICT DO NOTHING RETURNING consumer, event_id`,
    [events.map(({ consumer }) => consumer), events.map(({ eventId }) => eventId)],
  );
  const left = new Set(noted.map(({ consumer, event_id }) => `${consumer} ${event_id}`));
  const areFirst: boolean[] = [];
  for (const { consumer, eventId, effect } of events) {
    const isFirst = left.delete(`${consumer} ${eventId}`); // an event may come twice at once
    if (isFirst) await effect(tx);
    areFirst.push(isFirst);
  }
  return areFirst;
}
