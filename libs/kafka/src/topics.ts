/** Where the consumers of a topic put what they gave up on. */
export const deadLetterTopicOf = (topic: string) => `${topic}.dlq`;
