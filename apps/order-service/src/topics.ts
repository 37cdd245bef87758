import { readArguments } from '@platform/arguments';
import { loadConfig } from '@platform/config';
import { createTopics } from '@platform/kafka';
import { ORDERS_TOPIC } from './orders-topic';
import { SERVICE_NAME } from './service-name';

const USAGE = 'usage: npm run topics -- --partitions N [--replication-factor N]';

/** Creates the Kafka topics. The caller has to choose the number of partitions: it is fixed for the topics' life. */
async function main(): Promise<void> {
  const { values } = readArguments(USAGE, {
    options: { partitions: { type: 'string' }, 'replication-factor': { type: 'string', default: '-1' } },
  });
  const partitions = Number(values.partitions);
  const replicationFactor = Number(values['replication-factor']);
  if (!Number.isInteger(partitions) || partitions < 1 || !Number.isInteger(replicationFactor)) throw new Error(USAGE);
  const { kafka } = loadConfig(SERVICE_NAME);
  if (!kafka) throw new Error('KAFKA_BROKERS is required');
  for (const [topic, actual] of await createTopics(kafka, ORDERS_TOPIC, { partitions, replicationFactor })) {
    console.log(`${topic} has ${actual} partitions`);
    if (actual !== partitions) {
      console.warn(`${topic} existed before and is left as it is: another number would break the order of its events`);
    }
  }
}

main().catch((error: unknown) => {
  // For several topics kafkajs throws one error, whose own message only says that there were errors.
  const faults = (error as { errors?: readonly unknown[] }).errors ?? [error];
  for (const fault of faults) console.error(fault instanceof Error ? fault.message : fault);
  process.exitCode = 1;
});
