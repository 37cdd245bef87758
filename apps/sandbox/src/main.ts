import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import path from 'node:path';
import pretty from 'pino-pretty';
import { certificateFiles } from './certificates';
import { startIdentityProvider } from './identity-provider';
import { readOrCreateKeys } from './keys';
import { startPaymentApi } from './payment-api';
import { Pieces } from './pieces';
import { assertFree } from './ports';
import { assertNotRunning, type PostgresServer, startPostgres } from './postgres';
import { runProgram, startService } from './program';
import { stopOnSignal } from './signals';
import { AUDIENCE, CLIENT_SECRET, readSettings, SERVICE_LOGIN, TENANT_CLAIM } from './settings';

const TOPIC_PARTITIONS = 6;

type Settings = ReturnType<typeof readSettings>;

const pieces = new Pieces();

const postgresDir = (settings: Settings) => path.join(settings.dataDir, 'postgres');

interface Dependencies {
  /** Environment of the service. */
  readonly env: NodeJS.ProcessEnv;
  /** Database URL for migrations, if the sandbox has started the database. */
  readonly migrationUrl: string | undefined;
  readonly addresses: [string, string][];
}

const hasCertificates = ({ certsDir }: Settings) => existsSync(certificateFiles(certsDir, 'ca').cert);

/** The service has TLS of its own where it was given a certificate. */
const serviceUrl = ({ env, servicePort }: Settings) =>
  `${env['TLS_CERT_FILE'] ? 'https' : 'http'}://127.0.0.1:${servicePort.value}`;

/**
 * Starts the dependencies whose addresses are not given from outside.
 * @returns the service's environment and all addresses
 */
async function startDependencies(settings: Settings): Promise<Dependencies> {
  const { servicePort, postgres, identityProvider, payments, kafkaBrokers } = settings;
  const identityProviderTls = hasCertificates(settings) ? settings.identityProviderTls : undefined;
  if (postgres) assertNotRunning(postgresDir(settings));
  const ports = [servicePort, postgres, identityProvider, identityProviderTls, payments].filter((port) => !!port);
  for (const port of ports) {
    const other = ports.find(({ value }) => value === port.value);
    if (other && other !== port) throw new Error(`${port.name} must be another port than ${other.name}.`);
    await assertFree(port);
  }

  // Before its environment is put together: it takes libpq's variables out.
  const database = postgres && (await startDatabase(postgresDir(settings), postgres.value));
  const env: NodeJS.ProcessEnv = {
    NODE_ENV: 'development',
    SHUTDOWN_DELAY_MS: '0',
    OIDC_AUDIENCE: AUDIENCE,
    OIDC_TENANT_CLAIM: TENANT_CLAIM,
    ...(postgres && settings.env['NODE_ENV'] === 'production' && readOrCreateKeys(settings.dataDir)),
    ...settings.env,
    ...(database && { DATABASE_URL: database.url('orders', SERVICE_LOGIN.name) }),
    HOST: '127.0.0.1', // some shells have the machine's name there
    PORT: String(servicePort.value),
  };
  let mtlsUrl: string | undefined;
  if (identityProvider) {
    const mtls = identityProviderTls && { port: identityProviderTls.value, certsDir: settings.certsDir };
    const server = await pieces.start(() => startIdentityProvider(identityProvider.value, mtls));
    env['OIDC_ISSUER'] = server.url;
    mtlsUrl = server.mtlsUrl;
  }
  if (payments) {
    const file = path.join(settings.dataDir, 'payments.jsonl');
    const server = await pieces.start(() => startPaymentApi(payments.value, file));
    env['PAYMENT_API_URL'] = server.url;
  }
  const migrationUrl = database?.url('orders');
  return {
    env,
    migrationUrl,
    addresses: [
      ['PostgreSQL', migrationUrl ?? withoutSecrets(env['DATABASE_URL'] ?? '')],
      ['identity provider', env['OIDC_ISSUER'] ?? ''],
      ...(mtlsUrl === undefined ? [] : ([['  by certificate', mtlsUrl]] as [string, string][])),
      ['payment API', env['PAYMENT_API_URL'] ?? ''],
      ['Kafka', kafkaBrokers ?? 'none: events stay in the process (npm run kafka starts one)'],
      ['service', `${serviceUrl(settings)}, to read and try at /docs`],
    ],
  };
}

async function startDatabase(dataDir: string, port: number): Promise<PostgresServer> {
  console.log('Starting PostgreSQL; the first time its database is created.');
  const server = await pieces.start(() => startPostgres({ dataDir, port }));
  void server.ended.then(() => fail(new Error('PostgreSQL ended by itself. Start again: what was committed is kept.')));
  await server.createDatabase('orders');
  await server.createLogin(SERVICE_LOGIN.name, SERVICE_LOGIN.group, 'orders');
  return server;
}

/** For a database that was given from outside, whose URL may contain a password. */
function withoutSecrets(url: string): string {
  const { protocol, host, pathname } = URL.parse(url) ?? { protocol: '', host: '', pathname: '' };
  return `${protocol}//${host}${pathname}`;
}

async function prepareAndStart(settings: Settings, { env, migrationUrl }: Dependencies): Promise<void> {
  console.log('Migrating the database.');
  await runProgram(pieces, 'database/migrate', {
    ...env,
    ...(migrationUrl && { DATABASE_MIGRATION_URL: migrationUrl }),
  });
  if (settings.kafkaBrokers) await runProgram(pieces, 'topics', env, ['--partitions', String(TOPIC_PARTITIONS)]);
  console.log('Starting the service.');
  const output = process.stdout.isTTY ? pretty({ colorize: true, ignore: 'pid,hostname' }) : 'inherit';
  await startService({ pieces, env, url: serviceUrl(settings), output, fail });
}

function printReady(settings: Settings, { env, addresses }: Dependencies): void {
  const order = {
    idempotencyKey: randomUUID(),
    customerId: 'cust_123',
    items: [{ sku: 'ABC-001', quantity: 2, unitPrice: '49.99' }],
    totalAmount: { currency: 'USD', value: '99.98' },
  };
  const tokenCommand =
    `TOKEN=$(curl -s -u order-orchestrator:${CLIENT_SECRET} -d grant_type=client_credentials ` +
    `${env['OIDC_ISSUER']}/token | sed -E 's/.*"access_token":"([^"]+)".*/\\1/')`;
  const orderCommand =
    `curl -si ${tlsFlags(settings)}-H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' ` +
    `-d '${JSON.stringify(order)}' ${serviceUrl(settings)}/v1/orders`;
  console.log(
    [
      '',
      ...addresses.map(([name, address]) => `  ${name.padEnd(18)} ${address}`),
      '',
      ...(settings.identityProvider
        ? ['  Get a token, then create an order:', '', tokenCommand]
        : [`  Get a TOKEN for ${env['OIDC_AUDIENCE']} from ${env['OIDC_ISSUER']}, then create an order:`, '']),
      orderCommand,
      '',
      `Ready after ${performance.now().toFixed(0)} ms. Ctrl-C stops everything.`,
    ].join('\n'),
  );
}

/** What curl needs to know of certificates where the service has TLS of its own. */
function tlsFlags(settings: Settings): string {
  if (!settings.env['TLS_CERT_FILE'] || !hasCertificates(settings)) return '';
  const client = certificateFiles(settings.certsDir, 'order-orchestrator');
  return `--cacert '${certificateFiles(settings.certsDir, 'ca').cert}' --cert '${client.cert}' --key '${client.key}' `;
}

function fail(error: unknown): void {
  if (pieces.areStopping) return;
  console.error(error instanceof Error ? error.message : error);
  void pieces.stop().finally(() => process.exit(1));
}

stopOnSignal(() => pieces.stop());

async function main(): Promise<void> {
  const { node } = process.versions;
  if (Number.parseInt(node) < 24)
    throw new Error(
      `The sandbox needs Node.js 24, and this is ${node}: npm did not run install scripts. Run npm ci --ignore-scripts=false --include=dev.`,
    );
  const settings = readSettings();
  const dependencies = await startDependencies(settings);
  await prepareAndStart(settings, dependencies);
  if (!pieces.areStopping) printReady(settings, dependencies);
}

main().catch(fail);
