import { Inject, Injectable } from '@nestjs/common';
import { EventPublisher } from './event-publisher';
import { InProcessServer } from './in-process-server';
import { type StoredEvent, toMessage } from './stored-event';
import { TOPIC } from './topic';

/** Number of aggregates whose events are handled concurrently, and so can share a transaction. */
const CONCURRENT_AGGREGATES = 50;

@Injectable()
export class InProcessPublisher extends EventPublisher {
  constructor(
    private readonly server: InProcessServer,
    @Inject(TOPIC) private readonly topic: string,
  ) {
    super();
  }

  async connect(): Promise<void> {}

  async publish(events: readonly StoredEvent[]): Promise<void> {
    const aggregates = Map.groupBy(events, ({ aggregateid }) => aggregateid).values();
    const deliverEach = async () => {
      for (const ofOne of aggregates) {
        for (const event of ofOne) await this.server.deliver(this.topic, toMessage(event));
      }
    };
    const results = await Promise.allSettled(Array.from({ length: CONCURRENT_AGGREGATES }, deliverEach));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }
}
