/** The name by which PostgreSQL, Kafka, Redis and the collector of traces know the service. */
export const SERVICE_NAME = 'order-service';
