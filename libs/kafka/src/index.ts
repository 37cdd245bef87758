export { createTopics } from './create-topics';
export { DeadLetterBox, fullMessageLocation, type Letter, replayObstacle } from './dead-letter-box';
export { DeadLetterGauge } from './dead-letter-gauge';
export { headerText, oneLine } from './dead-letter-headers';
export { type DeadLetter, DeadLetters } from './dead-letters';
export { KafkaDeadLetters } from './kafka-dead-letters';
export { isRefusedWith, kafkaOptions, PRODUCER_OPTIONS } from './kafka-options';
export { deadLetterTopicOf } from './topics';
