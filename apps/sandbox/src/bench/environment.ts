import { openSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { startIdentityProvider } from '../identity-provider';
import { readOrCreateKeys } from '../keys';
import { startPaymentApi } from '../payment-api';
import type { Pieces } from '../pieces';
import { freePort } from '../ports';
import { startPostgres } from '../postgres';
import { runProgram, startService } from '../program';
import { AUDIENCE, CLIENT_SECRET, SERVICE_LOGIN, TENANT_CLAIM } from '../settings';

/** A running service and its database, for a measurement. */
export interface BenchEnvironment {
  readonly url: string;
  /** URL of the process with the role `worker`; `url` is that of the role `api`. */
  readonly workerUrl: string;
  readonly database: Client;
  fetchToken(): Promise<string>;
  /** Waits until events are published, and orders paid. */
  untilSettled(): Promise<void>;
}

/**
 * Starts the service as in production, in a process for each role, with a PostgreSQL, an identity provider and a
 * payment API of its own.
 * @param directory is emptied, and gets data and logs
 * @param fail is called when a process of the service ends by itself
 */
export async function startEnvironment(
  pieces: Pieces,
  directory: string,
  fail: (error: unknown) => void,
): Promise<BenchEnvironment> {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const [postgresPort, port, workerPort] = await Promise.all([freePort(), freePort(), freePort()]);
  const dataDir = path.join(directory, 'postgres');
  const postgres = await pieces.start(() => startPostgres({ dataDir, port: postgresPort }));
  await postgres.createDatabase('orders');
  await postgres.createLogin(SERVICE_LOGIN.name, SERVICE_LOGIN.group, 'orders');
  const { url: issuer } = await pieces.start(() => startIdentityProvider(0));
  const { url: paymentApi } = await pieces.start(() => startPaymentApi(0));
  const env: NodeJS.ProcessEnv = {
    NODE_ENV: 'production',
    HOST: '127.0.0.1',
    SHUTDOWN_DELAY_MS: '0',
    DATABASE_URL: postgres.url('orders', SERVICE_LOGIN.name),
    OIDC_ISSUER: issuer,
    OIDC_AUDIENCE: AUDIENCE,
    OIDC_TENANT_CLAIM: TENANT_CLAIM,
    PAYMENT_API_URL: paymentApi,
    ...readOrCreateKeys(directory),
    RATE_LIMIT_PER_MINUTE: '0',
  };
  await runProgram(pieces, 'database/migrate', { ...env, DATABASE_MIGRATION_URL: postgres.url('orders') });
  const startRole = async (role: string, port: number) => {
    const url = `http://127.0.0.1:${port}`;
    const output = openSync(path.join(directory, `${role}.log`), 'a');
    await startService({ pieces, env: { ...env, ROLES: role, PORT: String(port) }, url, output, fail });
    return url;
  };
  const [url, workerUrl] = await Promise.all([startRole('api', port), startRole('worker', workerPort)]);

  const database = await pieces.start(async () => {
    const client = new Client(postgres.url('orders'));
    client.on('error', fail); // without a listener it would end this process and leave the others running
    await client.connect();
    return Object.assign(client, { stop: () => client.end() });
  });
  return {
    url,
    workerUrl,
    database,
    fetchToken: () => fetchToken(issuer),
    async untilSettled() {
      while ((await countWaiting(database)) > 0) await delay(100);
    },
  };
}

async function fetchToken(issuer: string): Promise<string> {
  const response = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`order-orchestrator:${CLIENT_SECRET}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  });
  return ((await response.json()) as { access_token: string }).access_token;
}

async function countWaiting(database: Client): Promise<number> {
  const { rows } = await database.query<{ waiting: number }>(
    `SELECT ((SELECT count(*) FROM outbox WHERE published_at IS NULL)
           + (SELECT count(*) FROM orders WHERE status = 'PENDING'))::int AS waiting`,
  );
  return rows[0]?.waiting ?? 0;
}
