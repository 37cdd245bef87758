import 'reflect-metadata';
import { chmodSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loadConfig } from '@platform/config';
import { createTopics } from '@platform/kafka';
import { migrate } from '../../apps/order-service/src/database/migrate';
import { ORDERS_TOPIC } from '../../apps/order-service/src/orders-topic';
import { SERVICE_NAME } from '../../apps/order-service/src/service-name';
import { startIdentityProvider } from '../../apps/sandbox/src/identity-provider';
import { canStartKafka, canStartKafkaOnJvm, startKafka } from '../../apps/sandbox/src/kafka';
import { startPaymentApi } from '../../apps/sandbox/src/payment-api';
import { startPostgres } from '../../apps/sandbox/src/postgres';
import { SERVICE_LOGIN } from '../../apps/sandbox/src/settings';
import { freePort } from './free-port';
import { brokerOptions } from './own-broker';
import { publishPieces, TEMPLATE } from './pieces';
import { onTeardown, tearDown } from './teardown';

const PARTITIONS = 6;

/** Brokers live for minutes, in which optimised code and concurrent garbage collection never pay off. */
const SHORT_LIVED_JVM = '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC';

export default async function globalSetup(): Promise<void> {
  process.env['JDK_JAVA_OPTIONS'] ??= SHORT_LIVED_JVM;
  // When jest is interrupted, or its output is closed, it does not tear down: the servers would stay behind.
  const end = () => void tearDown().finally(() => process.exit(1));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, end);
  for (const stream of [process.stdout, process.stderr]) stream.once('error', end);
  const directory = mkdtempSync(path.join(tmpdir(), 'order-tests-'));
  // A process that was killed may still write there, which is no failure.
  onTeardown(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }).catch(() => undefined));
  process.env['TMPDIR'] = directory; // for the tests' own files, too
  chmodSync(directory, 0o755); // PostgreSQL may run as another user

  const [postgres, identityProvider, paymentApi, kafkaBrokers, canStartBroker] = await Promise.all([
    startDatabase(path.join(directory, 'postgres')),
    startIdentityProvider(0),
    startPaymentApi(0),
    findKafka(path.join(directory, 'kafka')),
    canHaveOwnBroker(),
  ]);
  onTeardown(() => identityProvider.stop());
  onTeardown(() => paymentApi.stop());

  const env = { DATABASE_URL: postgres.url(TEMPLATE), OIDC_ISSUER: identityProvider.url, OIDC_AUDIENCE: 'none' };
  const config = loadConfig(SERVICE_NAME, { ...env, KAFKA_BROKERS: kafkaBrokers });
  await Promise.all([
    migrate(config),
    config.kafka && createTopics(config.kafka, ORDERS_TOPIC, { partitions: PARTITIONS, replicationFactor: 1 }),
  ]);
  publishPieces({
    postgresUrl: postgres.url('postgres'),
    servicePostgresUrl: postgres.url('postgres', SERVICE_LOGIN.name),
    issuer: identityProvider.url,
    paymentApi: paymentApi.url,
    kafkaBrokers,
    canStartBroker,
  });
}

async function startDatabase(dataDir: string) {
  // Tests need no durability, so they need not wait for the disk.
  const settings = ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off', 'max_connections=300'];
  const server = await startPostgres({ dataDir, port: await freePort(), settings });
  onTeardown(() => server.stop());
  await server.createDatabase(TEMPLATE);
  await server.createLogin(SERVICE_LOGIN.name, SERVICE_LOGIN.group, TEMPLATE);
  return server;
}

/** Whether tests can have a broker of their own, also where others use one in Docker or a given one. */
async function canHaveOwnBroker(): Promise<boolean> {
  if (await canStartKafkaOnJvm()) return true;
  if (process.env['REQUIRE_KAFKA'] === '1') throw new Error('REQUIRE_KAFKA=1, and there is no Java 17 with Maven here');
  console.warn('\n\n  TESTS WITH A KAFKA OF THEIR OWN ARE SKIPPED: they need Java 17 with Maven.\n');
  return false;
}

async function findKafka(dataDir: string): Promise<string | undefined> {
  const given = process.env['KAFKA_BROKERS'];
  if (given) return given;
  if (!(await canStartKafka())) {
    if (process.env['REQUIRE_KAFKA'] === '1') throw new Error('REQUIRE_KAFKA=1, and no Kafka can be had here');
    console.warn('\n\n  KAFKA TESTS ARE SKIPPED: neither KAFKA_BROKERS, nor Docker, nor Java 17 with Maven.\n');
    return undefined;
  }
  const broker = await startKafka(await brokerOptions(dataDir));
  onTeardown(() => broker.stop());
  return broker.address;
}
