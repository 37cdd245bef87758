import { VersioningType } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { CustomTransportStrategy } from '@nestjs/microservices';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { auditRefusals, RefusalLog } from '@platform/audit';
import { SigningKeys } from '@platform/auth';
import { type Config } from '@platform/config';
import { answerClientErrors, ErrorFilter } from '@platform/errors';
import { HealthChecks } from '@platform/health';
import { docsSurface, HttpAdapter, httpSurface, inTurn, JsonBodyGuard, shedLoad } from '@platform/http-server';
import { EVENT_SERVER } from '@platform/messaging';
import { dropForgedCertificates, httpsOptions, TlsFiles, TrustedProxies } from '@platform/mtls';
import { createLogger, httpTelemetry } from '@platform/observability';
import { CallCounter } from '@platform/rate-limit';
import { requestContextMiddleware } from '@platform/request-context';
import { Spans } from '@platform/tracing';
import { RequestValidationPipe } from '@platform/validation';
import { AppModule } from './app.module';
import { serveOpenApi } from './openapi';

/** Above the 60 s after which load balancers drop idle connections, so that it is never us who close first. */
const KEEP_ALIVE_MS = 65_000;
/** Headers have this long to arrive, and a request with its body the longer time. */
const HEADERS_TIMEOUT_MS = 10_000;
export const REQUEST_TIMEOUT_MS = 30_000;
/** A connection on which nothing goes, because nobody reads. Longer than the service takes for any answer. */
const SILENCE_MS = 60_000;

/**
 * The application, as `main.ts` and every end-to-end test have it, ready to listen.
 * @param root wraps the application's module where a test adds controllers of its own
 */
export async function createApp(
  config: Config,
  root: object = AppModule.forRoot(config),
): Promise<NestExpressApplication> {
  const app = await NestFactory.create<NestExpressApplication>(root, new HttpAdapter(), {
    bodyParser: false,
    abortOnError: false,
    httpsOptions: httpsOptions(config),
    logger: config.logLevel === 'silent' ? false : createLogger(config),
  });
  await configure(app, config);
  return app;
}

/** Everything about the application that is not a module. */
async function configure(app: NestExpressApplication, config: Config): Promise<void> {
  app.disable('x-powered-by');
  // Else /Metrics gets past a proxy that keeps /metrics to itself. Nest has made the router by now, so the setting of
  // Express comes too late; routes are added to it later.
  Object.assign(app.getHttpAdapter().getInstance().router, { caseSensitive: true });
  app.set('etag', false); // ETags are the versions of orders
  const proxies = app.get(TrustedProxies);
  app.set('trust proxy', (address: string | undefined) => proxies.has(address));

  const checks = app.get(HealthChecks);
  checks.reported.set('identity-provider', async () => app.get(SigningKeys).assertAnswered());
  const counter = app.get(CallCounter);
  if (counter.isConfigured) checks.reported.set('redis', async () => counter.assertShared());

  app.use(
    inTurn([
      dropForgedCertificates(proxies, config.mtls.certificateHeader),
      requestContextMiddleware,
      httpTelemetry(app.get(Spans)),
      auditRefusals(app.get(RefusalLog)),
      (_req, res, next) => {
        if (checks.isDraining) res.setHeader('Connection', 'close');
        next();
      },
      ...httpSurface,
    ]),
  );
  app.use('/docs', docsSurface);

  app.enableVersioning({ type: VersioningType.URI });
  app.useGlobalGuards(new JsonBodyGuard()); // the modules' guards stand before it
  app.useGlobalPipes(new RequestValidationPipe());
  app.useGlobalFilters(new ErrorFilter());
  if (config.roles.includes('api')) serveOpenApi(app, config);

  const server = app.getHttpServer();
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.timeout = SILENCE_MS;
  server.maxHeadersCount = 0; // counted by httpSurface
  // An expectation that we do not know is no reason to refuse a request (RFC 9110 section 10.1.1).
  server.on('checkExpectation', (req, res) => server.emit('request', req, res));
  answerClientErrors(server);
  shedLoad(server, () => checks.isDraining);
  app.get(TlsFiles).serve(server);

  if (config.roles.includes('worker')) {
    app.connectMicroservice({ strategy: app.get<CustomTransportStrategy>(EVENT_SERVER) });
    await app.startAllMicroservices();
  }
}
