import path from 'node:path';
import { readArguments } from '@platform/arguments';
import { assertNoBroker, startKafka } from './kafka';
import { assertFree } from './ports';
import { readSettings } from './settings';
import { stopOnSignal } from './signals';

const USAGE = 'usage: npm run kafka   (without arguments)';

async function main(): Promise<void> {
  readArguments(USAGE, {});
  const settings = readSettings();
  const { kafka } = settings;
  const dataDir = path.join(settings.dataDir, 'kafka');
  assertNoBroker(dataDir);
  await assertFree(kafka);
  console.log('Starting Apache Kafka; the first time it is downloaded.');
  const starting = startKafka({
    port: kafka.value,
    controllerPort: kafka.value + 1,
    dataDir,
    libDir: path.join(settings.dataDir, 'kafka-jars'),
  });
  let stopping = false;
  stopOnSignal(async () => {
    stopping = true;
    await (await starting).stop();
  });
  const broker = await starting;
  broker.process.once('exit', () => {
    if (stopping) return;
    console.error(`Kafka ended by itself; its log is ${broker.log}`);
    process.exit(1);
  });
  console.log(`Ready: Kafka on ${broker.address}. Use it with: KAFKA_BROKERS=${broker.address} npm start`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
