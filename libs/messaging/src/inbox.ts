import { Injectable } from '@nestjs/common';
import { Batcher, Database, type Transaction } from '@platform/database';
import type { ConsumedEvent } from './consumed-event';

/** What events of one type cause that came together, within the transaction in which they are noted. */
export type EventHandler = (tx: Transaction, events: readonly ConsumedEvent[]) => Promise<void>;

/** By the type of the events. */
export type EventHandlers = Readonly<Record<string, EventHandler>>;

interface Consumption {
  readonly event: ConsumedEvent;
  readonly handlers: EventHandlers;
  readonly alone: boolean;
}

/**
 * Notes which events were consumed. Events that one consumer is given together share a transaction, and with it the round
 * trips and the wait for the disk. When one of them fails, each gets a transaction of its own, so that none suffers from
 * another.
 */
@Injectable()
export class Inbox {
  private readonly consumptions = new Map<string, Batcher<Consumption, boolean>>();

  constructor(private readonly database: Database) {}

  /**
   * Has the effect of an event and notes its id, both or neither.
   * @param handlers may be called again after they failed, or after another event did: they must do nothing outside of
   *   `tx` that cannot be done twice
   * @param options.alone for an event that has failed before, and would fail the others of its transaction again
   * @returns false when the consumer had the event before: then there is no effect
   */
  once(
    consumer: string,
    event: ConsumedEvent,
    handlers: EventHandlers,
    { alone }: { alone: boolean },
  ): Promise<boolean> {
    return this.of(consumer).add({ event, handlers, alone });
  }

  private of(consumer: string): Batcher<Consumption, boolean> {
    const known = this.consumptions.get(consumer);
    if (known) return known;
    const batcher = new Batcher<Consumption, boolean>(
      (events) => this.database.inTransaction((tx) => applyEffects(tx, consumer, events)),
      ({ alone }) => (alone ? Infinity : 1),
    );
    this.consumptions.set(consumer, batcher);
    return batcher;
  }
}

/** @returns for each event whether it was new */
async function applyEffects(
  tx: Transaction,
  consumer: string,
  consumptions: readonly Consumption[],
): Promise<boolean[]> {
  const noted = await tx.query<{ event_id: string }[]>(
    // In one order: two processes that have the same events for a while would else lock each other out.
    `INSERT INTO inbox (consumer, event_id)
     SELECT $1, * FROM unnest($2::text[]) ORDER BY 2
     ON CONFLICT DO NOTHING RETURNING event_id`,
    [consumer, consumptions.map(({ event }) => event.id)],
  );
  const left = new Set(noted.map(({ event_id }) => event_id));
  // An event may come twice at once.
  const areFirst = consumptions.map(({ event }) => left.delete(event.id));
  const first = consumptions.filter((_, index) => areFirst[index]);
  for (const group of Map.groupBy(first, ({ event }) => event.type).values()) {
    const [one] = group;
    const events = group.map(({ event }) => event);
    await one?.handlers[one.event.type]?.(tx, events);
  }
  return areFirst;
}
