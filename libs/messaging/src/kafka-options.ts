import type { Config } from '@platform/config';
import type { KafkaConfig, SASLOptions } from 'kafkajs';

/** How every Kafka client of the service connects. Retries little: who calls decides when to try again. */
export function kafkaOptions(kafka: NonNullable<Config['kafka']>): KafkaConfig {
  return {
    clientId: 'order-service',
    brokers: [...kafka.brokers],
    ssl: kafka.ssl,
    sasl: kafka.sasl as SASLOptions | undefined,
    connectionTimeout: 3_000,
    requestTimeout: 10_000,
    retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 3 },
  };
}
