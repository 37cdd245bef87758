import type { ModuleMetadata } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { type Config, loadConfig } from '@platform/config';
import { AppModule, NEEDS } from '../../apps/order-service/src/app.module';
import { createApp } from '../../apps/order-service/src/create-app';
import { SERVICE_NAME } from '../../apps/order-service/src/service-name';
import { DataSource } from 'typeorm';
import { createDatabase, PATIENT, type TestDatabase } from './database';
import { environment } from './environment';
import { until } from './until';

export interface TestService {
  readonly app: NestExpressApplication;
  readonly config: Config;
  readonly url: string;
  readonly database: TestDatabase;
  stop(): Promise<void>;
}

/** A test that fails before it has stopped its service would keep jest from ending. */
const stops = new Set<() => Promise<void>>();
afterAll(() => Promise.all([...stops].map((stop) => stop())));

interface Options {
  /** What a test puts beside the application's own module. */
  readonly beside?: Pick<ModuleMetadata, 'imports' | 'controllers'>;
  /** Whether its statements wait for longer than in production: see `PATIENT`. */
  readonly isPatient?: boolean;
}

/**
 * The real application in this process, on a database of its own. In the role `api`, so that orders stay as a test left
 * them, unless the test asks for another.
 * @param overrides environment variables that differ from the tests' usual ones
 */
export async function startService(
  overrides: NodeJS.ProcessEnv = {},
  { beside, isPatient = false }: Options = {},
): Promise<TestService> {
  const database = await createDatabase();
  const config = loadConfig(
    SERVICE_NAME,
    environment({ ROLES: 'api', DATABASE_URL: database.url + (isPatient ? PATIENT : ''), ...overrides }),
    NEEDS,
  );
  let app: NestExpressApplication | undefined;
  const stop = async () => {
    if (!stops.delete(stop)) return;
    await app?.close();
    await database.drop();
  };
  stops.add(stop);
  try {
    const root = beside && {
      module: class TestModule {},
      ...beside,
      imports: [AppModule.forRoot(config), ...(beside.imports ?? [])],
    };
    app = await createApp(config, root);
    await app.listen(config.port, config.host);
    const dataSource = app.get(DataSource);
    await until('the connection to the database', () => dataSource.isInitialized);
    return { app, config, url: await app.getUrl(), database, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
