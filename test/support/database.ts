import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { SERVICE_LOGIN } from '../../apps/sandbox/src/settings';
import { pieces, TEMPLATE } from './pieces';

export interface TestDatabase {
  /** For the service, as a role that may do only what the service needs. */
  readonly url: string;
  /** For migrations and for whatever a test does itself. */
  readonly superuserUrl: string;
  /** As a superuser. */
  query<T extends object>(text: string, values?: unknown[]): Promise<T[]>;
  drop(): Promise<void>;
}

/** For the end of a `DATABASE_URL`: what a test holds up does not give up, however slow the machine is. */
export const PATIENT = '?statement_timeout=60000&lock_timeout=60000&query_timeout=60000';

/** A fresh database on the shared server, with every migration made unless it is to be empty. */
export async function createDatabase({ empty = false } = {}): Promise<TestDatabase> {
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  await onServer(`CREATE DATABASE ${name} ${empty ? '' : `TEMPLATE ${TEMPLATE}`}`);
  const superuserUrl = pieces().postgresUrl.replace(/postgres$/, name);
  const client = new Client(superuserUrl);
  client.on('error', () => undefined);
  await client.connect();
  await client.query(
    `REVOKE ALL ON DATABASE ${name} FROM PUBLIC; GRANT CONNECT ON DATABASE ${name} TO ${SERVICE_LOGIN.group}`,
  );
  let last: Promise<unknown> = Promise.resolve();
  return {
    url: pieces().servicePostgresUrl.replace(/postgres$/, name),
    superuserUrl,
    /** One after the other, on one connection: BEGIN and COMMIT work, and tests may ask for several at once. */
    query<T extends object>(text: string, values?: unknown[]) {
      const rows = last.then(async () => (await client.query<T>(text, values)).rows);
      last = rows.catch(() => undefined);
      return rows;
    },
    async drop() {
      await client.end();
      await onServer(`DROP DATABASE ${name} WITH (FORCE)`);
    },
  };
}

async function onServer(statement: string): Promise<void> {
  const client = new Client(pieces().postgresUrl);
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
