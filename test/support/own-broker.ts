import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loadConfig } from '@platform/config';
import { createTopics } from '@platform/kafka';
import { ORDERS_TOPIC } from '../../apps/order-service/src/orders-topic';
import { SERVICE_NAME } from '../../apps/order-service/src/service-name';
import type { KafkaOptions } from '../../apps/sandbox/src/kafka';
import { environment } from './environment';
import { freePort } from './free-port';

/** Where the jars of Kafka are kept over runs. */
const LIB_DIR = path.resolve('.sandbox/kafka-jars');

/** Where a broker of a test's own is, however often it is started. */
export async function brokerOptions(dataDir = mkdtempSync(path.join(tmpdir(), 'order-kafka-'))): Promise<KafkaOptions> {
  return { port: await freePort(), controllerPort: await freePort(), dataDir, libDir: LIB_DIR };
}

/** Creates the topics there that the service has, as it would be configured. */
export async function createOrdersTopics(overrides: NodeJS.ProcessEnv): Promise<void> {
  const { kafka } = loadConfig(SERVICE_NAME, environment(overrides));
  if (!kafka) throw new Error('The environment names no Kafka');
  await createTopics(kafka, ORDERS_TOPIC, { partitions: 3, replicationFactor: 1 });
}
