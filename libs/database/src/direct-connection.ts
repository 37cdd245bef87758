import type { Config } from '@platform/config';
import { currentContext } from '@platform/request-context';
import type { Client } from 'pg';
import { endConnection } from './end-connection';
import { FailFastClient } from './fail-fast-client';

/** A connection outside the pool and past any transaction pooler: for session-level locks and long work. */
export type DirectConnection = Client;

/**
 * Options of node-postgres for direct connections.
 * @param purpose shown in `pg_stat_activity` after the service's name
 * @param queryTimeoutMs how long to wait for the answer to a statement, more than 1,000; 0 waits for ever
 */
export function directOptions(config: Config, purpose: string, queryTimeoutMs: number) {
  // Otherwise a client host that vanished would keep its locks for hours, until the server's kernel gives up. While an
  // answer is on its way there are no keepalive probes: then the kernel would send it again for a quarter of an hour.
  const keepalive =
    '-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=30000';
  // The server times out first. Overrides the role's setting, which behind a pooler is that of the pool.
  const timeout = `-c statement_timeout=${Math.max(0, queryTimeoutMs - 1_000)}`;
  // With `enable_sort` off, as some of these connections have it, PostgreSQL 15 estimates costs so high that it
  // compiles each statement that sorts, which takes longer than running it.
  const noJit = '-c jit=off';
  return {
    connectionString: config.database.directUrl,
    application_name: `${config.service} ${purpose}`,
    options: `${keepalive} ${timeout} ${noJit}`,
    connectionTimeoutMillis: 5_000,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
  };
}

/**
 * Opens a direct connection, with the parameters of {@link directOptions}. The caller ends it.
 * @throws {Error} in the context of a client: the connection has no tenant wall
 */
export async function openDirectConnection(...parameters: Parameters<typeof directOptions>): Promise<DirectConnection> {
  if (currentContext()?.principal) throw new Error('A direct connection is for the work of the service itself');
  const client = new FailFastClient(directOptions(...parameters));
  try {
    return await client.connect();
  } catch (error) {
    await endConnection(client);
    throw error;
  }
}

/**
 * Runs `work` with a direct connection and ends it: what was not committed is rolled back, and session locks are
 * released.
 * @param parameters as of {@link openDirectConnection}, which may throw
 */
export async function withDirectConnection<T>(
  parameters: Parameters<typeof openDirectConnection>,
  work: (client: DirectConnection) => Promise<T>,
): Promise<T> {
  const client = await openDirectConnection(...parameters);
  try {
    return await work(client);
  } finally {
    await endConnection(client);
  }
}
