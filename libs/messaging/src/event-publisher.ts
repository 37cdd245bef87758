import type { StoredEvent } from './stored-event';

/** The destination of the outbox relay: Kafka, or the consumers in the same process. */
export abstract class EventPublisher {
  /** Rejects while the destination is unavailable. */
  abstract connect(): Promise<void>;

  /**
   * Resolves once all events are stored at the destination, in the order given. After a rejection some may be.
   * @throws {EventRefused} if the destination will never accept one of them
   */
  abstract publish(events: readonly StoredEvent[]): Promise<void>;
}

/** An event that the destination refuses permanently, for example because it is too large. */
export class EventRefused extends Error {
  override readonly name = 'EventRefused';
}
