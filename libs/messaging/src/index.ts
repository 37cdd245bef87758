export { createTopics } from './create-topics';
export { DeadLetterBox, type OpenLetter } from './dead-letter-box';
export { headerText, oneLine } from './dead-letter-headers';
export { type DeadLetter } from './dead-letters';
export { type ConsumedEvent, MalformedEvent } from './consumed-event';
export { EventConsumer, oneByOne } from './event-consumer';
export { KafkaDeadLetters } from './kafka-dead-letters';
export { EVENT_SERVER, MessagingModule } from './messaging.module';
export {
  outboxArrays,
  outboxInsert,
  outboxInsertAll,
  outboxInsertSelect,
  type OutboxRow,
  outboxRow,
  outboxValues,
} from './outbox-row';
export { deadLetterTopicOf, ORDERS_TOPIC } from './topics';
