export { type ConsumedEvent, MalformedEvent } from './consumed-event';
export { EventConsumer, oneByOne } from './event-consumer';
export { EVENT_SERVER, MessagingModule } from './messaging.module';
export { OnEvents } from './on-events';
export { OUTBOX, type OutboxRow, outboxRow } from './outbox-row';
