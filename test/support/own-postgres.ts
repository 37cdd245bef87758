import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loadConfig } from '@platform/config';
import { migrate } from '../../apps/order-service/src/database/migrate';
import { SERVICE_NAME } from '../../apps/order-service/src/service-name';
import { type PostgresServer, startPostgres } from '../../apps/sandbox/src/postgres';
import { SERVICE_LOGIN } from '../../apps/sandbox/src/settings';
import { environment } from './environment';
import { freePort } from './free-port';

/** A PostgreSQL server for one test file alone, with the service's database: it can be away for a while, hang and die. */
export class OwnPostgres {
  private server: PostgresServer;

  private constructor(private readonly options: Parameters<typeof startPostgres>[0]) {}

  /** @param settings of the server */
  static async start(settings: readonly string[] = []): Promise<OwnPostgres> {
    const directory = mkdtempSync(path.join(tmpdir(), 'order-postgres-'));
    chmodSync(directory, 0o755); // it may run as another user
    const options = { dataDir: path.join(directory, 'postgres'), port: await freePort(), settings };
    const postgres = new OwnPostgres(options);
    await postgres.comeBack();
    await postgres.server.createDatabase('orders');
    await postgres.server.createLogin(SERVICE_LOGIN.name, SERVICE_LOGIN.group, 'orders');
    const env = environment({ DATABASE_URL: postgres.url, DATABASE_MIGRATION_URL: postgres.superuserUrl() });
    await migrate(loadConfig(SERVICE_NAME, env));
    return postgres;
  }

  /** For the service. */
  get url(): string {
    return this.server.url('orders', SERVICE_LOGIN.name);
  }

  superuserUrl(database = 'orders'): string {
    return this.server.url(database);
  }

  stop(): Promise<void> {
    return this.server.stop();
  }

  async comeBack(): Promise<void> {
    this.server = await startPostgres(this.options);
  }

  /** Stops the server with SIGSTOP, so that it begins no more sessions. @returns its process id and its sessions' */
  suspend(): number[] {
    process.kill(this.server.pid, 'SIGSTOP');
    return [this.server.pid, ...childrenOf(this.server.pid)];
  }
}

/** The ids of the processes that `pid` started and that still run. */
function childrenOf(pid: number): number[] {
  return execFileSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' })
    .trim()
    .split(/\s+/)
    .filter(Boolean)
    .map(Number);
}
