export { createTopics } from './create-topics';
export { InProcessServer } from './in-process-server';
export { MessagingModule } from './messaging.module';
export { type OutboxRow, outboxRow } from './outbox-row';
export { ORDERS_TOPIC } from './topics';
