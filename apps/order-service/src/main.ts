import { onSignal } from './signals'; // first: from here on signals end the process
import 'reflect-metadata';
import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { type Config, ConfigError, loadConfig } from '@platform/config';
import { HealthChecks } from '@platform/health';
import { trackConnections } from '@platform/http-server';
import { flushLogs } from '@platform/observability';
import { Spans } from '@platform/tracing';
import { NEEDS } from './app.module';
import { createApp, REQUEST_TIMEOUT_MS } from './create-app';
import { SERVICE_NAME } from './service-name';
import { settingsWithoutTls } from './settings-without-tls';

/** When the server stops listening, a connection has this long to send the headers of a request before it is closed. */
const UNUSED_MS = 1_000;

async function main(): Promise<void> {
  const config = loadConfig(SERVICE_NAME, undefined, NEEDS);
  // Node itself would print the error with all its properties, which may hold personal data, and not as JSON.
  process.on('uncaughtException', (error) => {
    new Logger('main').fatal(error, 'An uncaught error ends the process');
    process.exit(1);
  });
  const app = await createApp(config);
  if (config.usesKnownKeys) {
    new Logger('main').warn(
      'AUDIT_KEY or PSEUDONYM_KEY is missing: a publicly known key is in use, which NODE_ENV=production refuses',
    );
  }
  for (const name of settingsWithoutTls(config))
    new Logger('main').warn(`${name} is used without TLS: anyone on the way can read and change what is sent`);
  shutDownOnSignal(app, config);
  await app.listen(config.port, config.host);
  new Logger('main').log(
    `Listening on ${await app.getUrl()}, bound to ${config.host}, as ${config.roles.join(' and ')}`,
  );
}

/**
 * Shuts down gracefully: reports "not ready", waits until routers have noticed and send no new requests, stops
 * listening, finishes what is in flight, and closes connections (Nest's shutdown hooks).
 */
function shutDownOnSignal(app: NestExpressApplication, config: Config): void {
  const logger = new Logger('main');
  const connections = trackConnections(app.getHttpServer());
  const shutDown = async (signal: NodeJS.Signals) => {
    logger.log(`${signal}: draining for ${config.shutdownDelayMs} ms`);
    app.get(HealthChecks).drain();
    await delay(config.shutdownDelayMs);
    // When a server stops listening, Node closes idle connections, but not those that become idle later, and it no
    // longer enforces its request timeout.
    const server = app.getHttpServer();
    server.keepAliveTimeout = 1;
    const timers = [
      setTimeout(() => connections.closeUnused(), UNUSED_MS),
      setTimeout(() => server.closeAllConnections(), REQUEST_TIMEOUT_MS),
    ];
    await app.close().finally(() => app.get(Spans).close());
    timers.forEach(clearTimeout);
    logger.log('Closed');
    if (!(await flushLogs())) process.kill(process.pid, 'SIGKILL');
  };
  let shutdown: Promise<void> | undefined; // a second signal does not cut the shutdown short
  onSignal((signal) => {
    shutdown ??= shutDown(signal).then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error(error, 'The shutdown failed');
        process.exit(1);
      },
    );
  });
}

main().catch((error: unknown) => {
  // Without a configuration there is no logger. Any other error is logged, so that Node does not print its properties.
  if (error instanceof ConfigError) console.error(error.message);
  else new Logger('main').fatal(error, 'The process cannot start, and ends');
  process.exit(1);
});
