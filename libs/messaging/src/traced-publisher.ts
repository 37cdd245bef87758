import type { Config } from '@platform/config';
import { childOf, parseTraceparent, traceparent } from '@platform/request-context';
import { errorTypeOf, type Spans } from '@platform/tracing';
import { EventPublisher } from './event-publisher';
import { messageSpan } from './message-span';
import { eventIdOf, type StoredEvent } from './stored-event';

/** Adds a span for sending each event: child of the work that caused it, parent of what the event causes. */
export class TracedPublisher extends EventPublisher {
  constructor(
    private readonly publisher: EventPublisher,
    private readonly spans: Spans,
    private readonly config: Config,
    private readonly topic: string,
  ) {
    super();
  }

  async connect(): Promise<void> {
    await this.publisher.connect();
  }

  async publish(events: readonly StoredEvent[]): Promise<void> {
    const start = performance.now();
    const traced = events.map((event) => ({ event, trace: childOf(parseTraceparent(event.traceparent ?? undefined)) }));
    let error: string | undefined;
    try {
      await this.publisher.publish(traced.map(({ event, trace }) => ({ ...event, traceparent: traceparent(trace) })));
    } catch (cause) {
      error = errorTypeOf(cause); // the batch's error: some of its events may have arrived
      throw cause;
    } finally {
      for (const { event, trace } of traced) {
        if (!this.spans.has(trace)) continue;
        const message = { topic: this.topic, eventId: eventIdOf(event), eventType: event.type };
        this.spans.add(trace, { ...messageSpan('send', message, this.config), start, error });
      }
    }
  }
}
