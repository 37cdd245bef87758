import { Injectable } from '@nestjs/common';
import { EventPublisher } from './event-publisher';
import { InProcessServer } from './in-process-server';
import { type StoredEvent, toMessage } from './stored-event';
import { ORDERS_TOPIC } from './topics';

@Injectable()
export class InProcessPublisher extends EventPublisher {
  constructor(private readonly server: InProcessServer) {
    super();
  }

  async connect(): Promise<void> {}

  async publish(events: readonly StoredEvent[]): Promise<void> {
    for (const event of events) await this.server.deliver(ORDERS_TOPIC, toMessage(event));
  }
}
