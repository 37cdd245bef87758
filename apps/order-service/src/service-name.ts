/** How the service is known to whom it connects to: PostgreSQL, Kafka, Redis and the collector of traces. */
export const SERVICE_NAME = 'order-service';
