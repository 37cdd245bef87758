import { randomUUID } from 'node:crypto';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pretty from 'pino-pretty';
import { certificateFiles } from './certificates';
import { startIdentityProvider } from './identity-provider';
import { startPaymentApi } from './payment-api';
import { assertFree } from './ports';
import { assertNotRunning, startPostgres } from './postgres';
import { runProgram, startProgram } from './program';
import { stopOnSignal } from './signals';
import { AUDIENCE, CLIENT_SECRET, readSettings, SERVICE_LOGIN, TENANT_CLAIM } from './settings';

const READY_WITHIN_MS = 60_000;
const STOP_WITHIN_MS = 15_000;
const TOPIC_PARTITIONS = 6;

type Settings = ReturnType<typeof readSettings>;

/** What was started, in that order. */
const pieces: Promise<{ stop(): Promise<void> }>[] = [];
let stopping: Promise<void> | undefined;

/** Stops what was started, last first; what is still starting is awaited, so that it leaves no process behind. */
function stopAll(): Promise<void> {
  stopping ??= (async () => {
    for (const starting of pieces.reverse()) {
      const piece = await starting.catch(() => undefined);
      await piece?.stop();
    }
  })();
  return stopping;
}

/** Starts a piece, unless everything is being stopped. */
function start<T extends { stop(): Promise<void> }>(starter: () => Promise<T>): Promise<T> {
  if (stopping) throw new Error('The sandbox is being stopped');
  const starting = starter();
  pieces.push(starting);
  return starting;
}

const postgresDir = (settings: Settings) => path.join(settings.dataDir, 'postgres');

interface Pieces {
  /** What the service is told. */
  readonly env: NodeJS.ProcessEnv;
  /** As whom the database is migrated, where that is ours. */
  readonly migrationUrl?: string;
  readonly addresses: [string, string][];
}
const hasCertificates = ({ certsDir }: Settings) => existsSync(certificateFiles(certsDir, 'ca').cert);

/** The service has TLS of its own where it was given a certificate. */
const serviceUrl = ({ env, servicePort }: Settings) =>
  `${env['TLS_CERT_FILE'] ? 'https' : 'http'}://127.0.0.1:${servicePort.value}`;

/** Starts the pieces that are not given from outside and tells the service where all of them are. */
async function startPieces(settings: Settings): Promise<Pieces> {
  const { servicePort, postgres, identityProvider, payments, kafkaBrokers } = settings;
  const identityProviderTls = hasCertificates(settings) ? settings.identityProviderTls : undefined;
  if (postgres) assertNotRunning(postgresDir(settings));
  const ports = [servicePort, postgres, identityProvider, identityProviderTls, payments];
  for (const port of ports) if (port) await assertFree(port);

  const env: NodeJS.ProcessEnv = {
    NODE_ENV: 'development',
    HOST: '127.0.0.1',
    SHUTDOWN_DELAY_MS: '0',
    OIDC_AUDIENCE: AUDIENCE,
    OIDC_TENANT_CLAIM: TENANT_CLAIM,
    ...settings.env,
    PORT: String(servicePort.value),
  };
  let migrationUrl: string | undefined;
  if (postgres) {
    const dataDir = postgresDir(settings);
    const server = await start(() => startPostgres({ dataDir, port: postgres.value }));
    await server.createDatabase('orders');
    await server.createLogin(SERVICE_LOGIN.name, SERVICE_LOGIN.group);
    env['DATABASE_URL'] = server.url('orders', SERVICE_LOGIN.name);
    migrationUrl = server.url('orders');
  }
  let mtlsUrl: string | undefined;
  if (identityProvider) {
    const mtls = identityProviderTls && { port: identityProviderTls.value, certsDir: settings.certsDir };
    const server = await start(() => startIdentityProvider(identityProvider.value, mtls));
    env['OIDC_ISSUER'] = server.url;
    mtlsUrl = server.mtlsUrl;
  }
  if (payments) {
    const file = path.join(settings.dataDir, 'payments.jsonl');
    const server = await start(() => startPaymentApi(payments.value, file));
    env['PAYMENT_API_URL'] = server.url;
  }
  return {
    env,
    migrationUrl,
    addresses: [
      ['PostgreSQL', migrationUrl ?? env['DATABASE_URL'] ?? ''],
      ['identity provider', env['OIDC_ISSUER'] ?? ''],
      ...(mtlsUrl === undefined ? [] : ([['  by certificate', mtlsUrl]] as [string, string][])),
      ['payment API', env['PAYMENT_API_URL'] ?? ''],
      ['Kafka', kafkaBrokers ?? 'none: events stay in the process (npm run kafka starts one)'],
      ['service', `${serviceUrl(settings)}, to read and try at /docs`],
    ],
  };
}

async function startService(settings: Settings, { env, migrationUrl }: Pieces): Promise<void> {
  await runProgram('database/migrate', { ...env, ...(migrationUrl && { DATABASE_MIGRATION_URL: migrationUrl }) });
  if (settings.kafkaBrokers) await runProgram('topics', env, ['--partitions', String(TOPIC_PARTITIONS)]);
  const { service } = await start(async () => {
    const service = startProgram('main', env);
    return { service, stop: () => stopService(service) };
  });
  const output = process.stdout.isTTY ? pretty({ colorize: true, ignore: 'pid,hostname' }) : process.stdout;
  service.stdout?.pipe(output, { end: false });
  const exited = once(service, 'exit').then(([code, signal]) => {
    if (!stopping) throw new Error(`The service ended by itself with ${signal ?? `exit code ${code}`}.`);
  });
  await Promise.race([exited, untilReady(`${serviceUrl(settings)}/health/ready`)]);
  exited.catch(fail);
}

async function untilReady(url: string): Promise<void> {
  const deadline = Date.now() + READY_WITHIN_MS;
  while (Date.now() < deadline) {
    if (await isOk(url).catch(() => false)) return;
    await delay(50);
  }
  throw new Error(`The service was not ready after ${READY_WITHIN_MS / 1_000} s.`);
}

async function isOk(url: string): Promise<boolean> {
  if (url.startsWith('http:')) return (await fetch(url)).ok;
  // We have started the service ourselves, so its certificate tells us nothing that we did not know.
  const [response] = (await once(https.get(url, { rejectUnauthorized: false, agent: false }), 'response')) as [
    IncomingMessage,
  ];
  response.resume();
  return response.statusCode === 200;
}

async function stopService(service: ChildProcess): Promise<void> {
  if (service.exitCode !== null || service.signalCode !== null) return;
  const exit = once(service, 'exit');
  service.kill('SIGTERM');
  const timer = setTimeout(() => service.kill('SIGKILL'), STOP_WITHIN_MS);
  await exit;
  clearTimeout(timer);
}

function printReady(settings: Settings, { env, addresses }: Pieces): void {
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
      '  Get a token, then create an order:',
      '',
      tokenCommand,
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
  return `--cacert ${certificateFiles(settings.certsDir, 'ca').cert} --cert ${client.cert} --key ${client.key} `;
}

function fail(error: unknown): void {
  if (stopping) return;
  console.error(error instanceof Error ? error.message : error);
  void stopAll().finally(() => process.exit(1));
}

stopOnSignal(stopAll);

async function main(): Promise<void> {
  const settings = readSettings();
  const pieces = await startPieces(settings);
  await startService(settings, pieces);
  if (!stopping) printReady(settings, pieces);
}

main().catch(fail);
