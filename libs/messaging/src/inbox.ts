import { Injectable } from '@nestjs/common';
import { Batcher, Database, type Transaction } from '@platform/database';
import type { ConsumedEvent } from './consumed-event';

/** Handles events of one type that arrived together, within the transaction in which they are recorded. */
export type EventHandler = (tx: Transaction, events: readonly ConsumedEvent[]) => Promise<void>;

/** Handlers by event type. */
export type EventHandlers = Readonly<Record<string, EventHandler>>;

interface Consumption {
  readonly event: ConsumedEvent;
  readonly handlers: EventHandlers;
  readonly alone: boolean;
}

/**
 * Records which events were consumed. Concurrent events of a consumer share a transaction, and with it the round trips
 * and the flush to disk. If one of them fails, each gets its own transaction, so that none suffers from another.
 */
@Injectable()
export class Inbox {
  private readonly consumptions = new Map<string, Batcher<Consumption, boolean>>();

  constructor(private readonly database: Database) {}

  /**
   * Runs the handler of an event and records the event's id, atomically.
   * @param handlers may be called again, after they or another event failed: their effects outside of `tx` must be
   *   repeatable
   * @param options.alone for an event that failed before: it would make the others in its transaction fail too
   * @returns false if the consumer has processed the event before; the handler is not called then
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
    // Sorted: two processes that have the same events for a while would deadlock otherwise.
    `INSERT INTO inbox (consumer, event_id)
     SELECT $1, * FROM unnest($2::text[]) ORDER BY 2
     ON CONFLICT DO NOTHING RETURNING event_id`,
    [consumer, consumptions.map(({ event }) => event.id)],
  );
  const left = new Set(noted.map(({ event_id }) => event_id));
  // The same event may be in the batch twice.
  const areFirst = consumptions.map(({ event }) => left.delete(event.id));
  const first = consumptions.filter((_, index) => areFirst[index]);
  for (const group of Map.groupBy(first, ({ event }) => event.type).values()) {
    const [one] = group;
    const events = group.map(({ event }) => event);
    await one?.handlers[one.event.type]?.(tx, events);
  }
  return areFirst;
}
