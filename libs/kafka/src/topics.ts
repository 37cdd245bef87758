/** Name of the dead letter topic of a topic. */
export const deadLetterTopicOf = (topic: string) => `${topic}.dlq`;
