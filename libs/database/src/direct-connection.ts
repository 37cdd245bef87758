import type { Config } from '@platform/config';
import { currentContext } from '@platform/request-context';
import { Client } from 'pg';

/** As {@link directConnection} gives it. */
export type DirectConnection = Client;

/**
 * One connection of its own, outside the pool and never through a transaction pooler: for session locks.
 * The caller connects and ends it. It has no tenant wall, so it is not to be had while working for a client.
 * @param applicationName how the connection shows in `pg_stat_activity`
 * @param queryTimeoutMs how long to wait for an answer; 0 waits for ever
 */
export function directConnection(config: Config, applicationName: string, queryTimeoutMs: number): DirectConnection {
  if (currentContext()?.principal) throw new Error('A direct connection is for the work of the service itself');
  return new Client({
    connectionString: config.database.directUrl,
    application_name: applicationName,
    connectionTimeoutMillis: 5_000,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
  });
}
