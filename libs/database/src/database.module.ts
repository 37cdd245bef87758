import { setTimeout as delay } from 'node:timers/promises';
import {
  type BeforeApplicationShutdown,
  type DynamicModule,
  Global,
  Logger,
  Module,
  type OnModuleInit,
} from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { CONFIG, type Config } from '@platform/config';
import { HealthChecks } from '@platform/health';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { Database, poolOf } from './database';
import { isMissingTable, isUnavailable } from './database-errors';
import { TenantWall } from './tenant-wall';
import { WalledClient } from './walled-client';

/** Entities and migrations of the application. */
interface Schema extends Pick<DataSourceOptions, 'entities' | 'migrations'> {
  /** The names of all tables with a column `tenant_id`. */
  readonly tenantTables: readonly string[];
}

/**
 * Connecting and the answer together take less than the 2 s within which a request must learn that the database is
 * unavailable. The server times out first (`statement_timeout`), so that no abandoned statement runs on.
 */
const CONNECT_TIMEOUT_MS = 700;
const STATEMENT_TIMEOUT_MS = 1_000;
const ANSWER_TIMEOUT_MS = 1_200;
/** Pause between attempts to connect until the first succeeds. */
const RETRY_MS = 1_000;
/** Idle connections are probed this often (TCP keepalive), so that nothing on the way forgets them. */
const KEEP_ALIVE_MS = 10_000;
/** Far longer than our own statements hold locks: beyond it, something unusual holds the lock. */
const LOCK_TIMEOUT_MS = 500;

@Global()
@Module({})
export class DatabaseModule implements OnModuleInit, BeforeApplicationShutdown {
  private readonly logger = new Logger(DatabaseModule.name);
  private readonly closing = new AbortController();
  private connecting: Promise<void> | undefined;
  /** Why the last attempt to connect failed. */
  private failure: Error | undefined;
  /** Whether some connections could not be opened when the pool was last filled. */
  private isShort = false;

  constructor(
    private readonly dataSource: DataSource,
    private readonly checks: HealthChecks,
  ) {}

  static forRoot({ tenantTables, ...schema }: Schema): DynamicModule {
    return {
      module: DatabaseModule,
      imports: [
        TypeOrmModule.forRootAsync({
          inject: [CONFIG],
          useFactory: (config: Config) => ({
            ...schema,
            type: 'postgres' as const,
            url: config.database.url,
            poolSize: config.database.poolSize,
            connectTimeoutMS: CONNECT_TIMEOUT_MS,
            applicationName: config.service,
            manualInitialization: true, // by `onModuleInit`
            extra: {
              Client: WalledClient,
              tenantWall: new TenantWall(tenantTables),
              // This many are kept open; by default the pool closes those that are idle for 10 s. In a worker no client
              // waits for one.
              min: config.roles.includes('api') ? config.database.poolSize : 0,
              keepAlive: true,
              keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
              query_timeout: ANSWER_TIMEOUT_MS,
              statement_timeout: STATEMENT_TIMEOUT_MS,
              lock_timeout: LOCK_TIMEOUT_MS,
              idle_in_transaction_session_timeout: 5_000,
            },
          }),
        }),
      ],
      providers: [Database],
      exports: [Database],
    };
  }

  /**
   * Starts also without a database: until it is reachable, queries fail and the process is not ready.
   * @throws {Error} if the database cannot be used for another reason, for example an invalid entity
   */
  async onModuleInit(): Promise<void> {
    let isMigrated = false;
    let hasWarned = false;
    this.checks.required.set('database', async () => {
      if (this.failure && !this.dataSource.isInitialized) throw this.failure;
      await Promise.all([this.fillPool(), this.dataSource.query('SELECT 1')]);
      if (isMigrated) return;
      const missing = await this.missingMigrations();
      isMigrated = missing.length === 0;
      if (isMigrated) return;
      if (!hasWarned)
        this.logger.warn({ missing }, 'Migrations are missing: not ready until `npm run migrate` has run');
      hasWarned = true;
      throw new Error('migrations are missing: run `npm run migrate`');
    });
    await this.connect();
    if (this.failure && !isUnavailable(this.failure)) throw this.failure;
    if (this.failure) this.connecting = this.connectLater();
  }

  /** Ends the attempts to connect: a connection made during shutdown would stay open. */
  async beforeApplicationShutdown(): Promise<void> {
    this.closing.abort();
    await this.connecting;
  }

  private async connect(): Promise<void> {
    try {
      await this.dataSource.initialize();
      await this.fillPool();
      if (this.failure) this.logger.log('The database is available');
    } catch (error) {
      await this.dataSource.driver.disconnect().catch(() => undefined); // closes what it opened before it failed
      if ((error as Error).message !== this.failure?.message)
        this.logger.warn({ err: error }, 'The database is unavailable; the service waits for it');
      this.failure = error as Error;
    }
  }

  /**
   * Opens the connections that are kept open, so that no request waits for one: at the start and at each readiness
   * probe, since a server that was restarted has closed them. Those that fail are opened when they are needed; the
   * warning tells before there is load that the server has no room for them.
   */
  private async fillPool(): Promise<void> {
    const pool = poolOf(this.dataSource);
    if (!pool || this.closing.signal.aborted) return;
    const { min = 0 } = pool.options;
    const missing = min - pool.totalCount;
    if (missing <= 0) return;
    // The pool opens a new one only for a caller for whom none is idle.
    const connecting = Array.from({ length: pool.idleCount + missing }, async () => (await pool.connect()).release());
    const failed = (await Promise.allSettled(connecting)).filter((one) => one.status === 'rejected');
    const wasShort = this.isShort;
    this.isShort = failed.length > 0;
    if (!this.isShort || wasShort) return;
    const message = `Connections to the database that could not be opened: ${failed.length} of ${min}`;
    this.logger.warn({ err: failed[0]!.reason as Error }, message);
  }

  private async connectLater(): Promise<void> {
    while (!this.dataSource.isInitialized) {
      await delay(RETRY_MS, undefined, { signal: this.closing.signal, ref: false }).catch(() => undefined);
      if (this.closing.signal.aborted) return;
      await this.connect();
    }
  }

  private async missingMigrations(): Promise<string[]> {
    const reading = this.dataSource.query<{ name: string }[]>('SELECT name FROM migrations');
    const rows = await reading.catch((error: unknown) => {
      if (isMissingTable(error)) return []; // none has run here
      throw error;
    });
    const done = new Set(rows.map(({ name }) => name));
    return this.dataSource.migrations.flatMap(({ name = '' }) => (done.has(name) ? [] : name));
  }
}
