import type { StoredEvent } from './stored-event';

/** Where the relay takes events to: Kafka, or the consumers in the same process. */
export abstract class EventPublisher {
  /** Rejects while nothing can be published. */
  abstract connect(): Promise<void>;

  /**
   * Resolves when every event has arrived for good, in the order given. After a rejection some may have arrived.
   * @throws {EventRefused} when one of them will never be taken
   */
  abstract publish(events: readonly StoredEvent[]): Promise<void>;
}

/** An event that the destination refuses whatever is done, for example because it is too large. */
export class EventRefused extends Error {
  override readonly name = 'EventRefused';
}
