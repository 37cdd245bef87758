import { VersioningType } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { type Config } from '@platform/config';
import { answerClientErrors, ErrorFilter, RequestValidationPipe } from '@platform/errors';
import { HealthChecks } from '@platform/health';
import { InProcessServer } from '@platform/messaging';
import { httpTelemetry } from '@platform/observability';
import { requestContextMiddleware } from '@platform/request-context';
import { Logger } from 'nestjs-pino';
import { jsonBody } from './json-body';
import { serveOpenApi } from './openapi';

/** Above the 60 s after which load balancers drop idle connections, so that it is never us who close first. */
const KEEP_ALIVE_MS = 65_000;
/** A request, body included, has this long to arrive. */
const REQUEST_TIMEOUT_MS = 30_000;

/** Everything about the application that is not a module. `main.ts` and every end-to-end test come through here. */
export async function configureApp(app: NestExpressApplication, config: Config): Promise<void> {
  app.useLogger(app.get(Logger));
  app.disable('x-powered-by');
  app.set('etag', false); // ETags are the versions of orders

  const checks = app.get(HealthChecks);
  app.use(requestContextMiddleware);
  app.use(httpTelemetry());
  app.use((_req: unknown, res: { setHeader(name: string, value: string): void }, next: () => void) => {
    if (checks.isDraining) res.setHeader('Connection', 'close');
    next();
  });
  app.use(jsonBody);

  app.enableVersioning({ type: VersioningType.URI });
  app.useGlobalPipes(new RequestValidationPipe());
  app.useGlobalFilters(new ErrorFilter());
  if (config.roles.includes('api')) serveOpenApi(app, config);

  const server = app.getHttpServer();
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.headersTimeout = KEEP_ALIVE_MS + 1_000;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  answerClientErrors(server);

  if (config.roles.includes('worker') && !config.kafka) {
    app.connectMicroservice({ strategy: app.get(InProcessServer) });
    await app.startAllMicroservices();
  }
}
