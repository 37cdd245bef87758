import { Client } from 'pg';
import type { Config } from '@platform/config';

/**
 * One connection of its own, outside the pool and never through a transaction pooler: for session locks.
 * The caller connects and ends it.
 * @param applicationName how the connection shows in `pg_stat_activity`
 * @param queryTimeoutMs how long to wait for an answer; 0 waits for ever
 */
export function directConnection(config: Config, applicationName: string, queryTimeoutMs: number): Client {
  return new Client({
    connectionString: config.database.directUrl,
    application_name: applicationName,
    connectionTimeoutMillis: 5_000,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
  });
}
