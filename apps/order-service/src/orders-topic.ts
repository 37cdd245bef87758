/** Every event of the service goes to this topic, keyed by the thing that it is about. */
export const ORDERS_TOPIC = 'orders.events';
