/** Kafka topic of all events of the service. The message key is the event's aggregate id. */
export const ORDERS_TOPIC = 'orders.events';
