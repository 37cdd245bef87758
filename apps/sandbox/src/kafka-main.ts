import path from 'node:path';
import { startKafka } from './kafka';
import { assertFree } from './ports';
import { stopOnSignal } from './signals';

const PORT = 9092;
const CONTROLLER_PORT = 9093;

async function main(): Promise<void> {
  await assertFree({ value: PORT });
  console.log('Starting Apache Kafka; the first time it is downloaded.');
  const dataDir = path.resolve('.sandbox/kafka');
  const libDir = path.resolve('.sandbox/kafka-jars');
  const starting = startKafka({ port: PORT, controllerPort: CONTROLLER_PORT, dataDir, libDir });
  let stopping = false;
  stopOnSignal(async () => {
    stopping = true;
    await (await starting).stop();
  });
  const broker = await starting;
  broker.process.once('exit', () => {
    if (!stopping) process.exit(1);
  });
  console.log(`Ready: Kafka on ${broker.address}. Use it with: KAFKA_BROKERS=${broker.address} npm start`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
