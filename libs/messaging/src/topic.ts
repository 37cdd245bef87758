/** Injection token of the topic that the service publishes to. */
export const TOPIC = Symbol('TOPIC');
