import type { Config } from '@platform/config';
import { currentContext } from '@platform/request-context';
import type { Client } from 'pg';
import { endConnection } from './end-connection';
import { FailFastClient } from './fail-fast-client';

/** A connection of its own, outside the pool and never through a transaction pooler: for session locks and long work. */
export type DirectConnection = Client;

/**
 * How node-postgres makes direct connections.
 * @param purpose shows in `pg_stat_activity`, behind the name of the service
 * @param queryTimeoutMs how long to wait for an answer; 0 waits for ever
 */
export function directOptions(config: Config, purpose: string, queryTimeoutMs: number) {
  return {
    connectionString: config.database.directUrl,
    application_name: `${config.service} ${purpose}`,
    // Without these a host that vanished would hold its locks until the server's kernel gives up, after hours.
    options: '-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3',
    connectionTimeoutMillis: 5_000,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
  };
}

/**
 * A connected one, with the parameters of {@link directOptions}; the caller ends it. It has no tenant wall, so it is not
 * to be had while working for a client.
 */
export async function directConnection(...parameters: Parameters<typeof directOptions>): Promise<DirectConnection> {
  if (currentContext()?.principal) throw new Error('A direct connection is for the work of the service itself');
  const client = new FailFastClient(directOptions(...parameters));
  try {
    return await client.connect();
  } catch (error) {
    await endConnection(client);
    throw error;
  }
}
