import { VersioningType } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { CustomTransportStrategy } from '@nestjs/microservices';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { auditRefusals, RefusalLog } from '@platform/audit';
import { SigningKeys } from '@platform/auth';
import { type Config } from '@platform/config';
import { answerClientErrors, ErrorFilter } from '@platform/errors';
import { HealthChecks } from '@platform/health';
import { chainMiddleware, docsSurface, HttpAdapter, httpSurface, JsonBodyGuard, shedLoad } from '@platform/http-server';
import { EVENT_SERVER } from '@platform/messaging';
import { dropForgedCertificates, httpsOptions, TlsFiles, TrustedProxies } from '@platform/mtls';
import { createLogger, httpTelemetry } from '@platform/observability';
import { CallCounter } from '@platform/rate-limit';
import { requestContextMiddleware } from '@platform/request-context';
import { Spans } from '@platform/tracing';
import { RequestValidationPipe } from '@platform/validation';
import { AppModule } from './app.module';
import { serveOpenApi } from './openapi';

/** Limits for receiving the headers of a request, and the whole request with its body. */
const HEADERS_TIMEOUT_MS = 10_000;
export const REQUEST_TIMEOUT_MS = 30_000;
/** Closes connections without traffic, such as those of clients that do not read. Longer than any response takes. */
const SOCKET_TIMEOUT_MS = 60_000;

/**
 * Creates the application, configured and ready to listen, for `main.ts` and for the end-to-end tests alike.
 * @param root the root module; a test that adds controllers passes one that imports `AppModule`
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
  // Otherwise /Metrics would get past a proxy that blocks /metrics. Nest has created the router by now, so Express's
  // own setting would come too late; it applies to routes that are added after this.
  Object.assign(app.getHttpAdapter().getInstance().router, { caseSensitive: true });
  app.set('etag', false); // ETags are the versions of orders
  const proxies = app.get(TrustedProxies);
  app.set('trust proxy', (address: string | undefined) => proxies.has(address));

  const checks = app.get(HealthChecks);
  checks.reported.set('identity-provider', async () => app.get(SigningKeys).assertAnswered());
  const counter = app.get(CallCounter);
  if (counter.isConfigured) checks.reported.set('redis', async () => counter.assertShared());

  app.use(
    chainMiddleware([
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
  app.useGlobalGuards(new JsonBodyGuard()); // runs after the guards of the modules
  app.useGlobalPipes(new RequestValidationPipe());
  app.useGlobalFilters(new ErrorFilter());
  if (config.roles.includes('api')) serveOpenApi(app, config);

  const server = app.getHttpServer();
  server.keepAliveTimeout = config.keepAliveMs;
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.timeout = SOCKET_TIMEOUT_MS;
  server.maxHeadersCount = 0; // no limit: httpSurface counts them
  // An unknown `Expect` header is no reason to refuse a request (RFC 9110 section 10.1.1).
  server.on('checkExpectation', (req, res) => server.emit('request', req, res));
  answerClientErrors(server);
  shedLoad(server, () => checks.isDraining);
  app.get(TlsFiles).attachTo(server);

  if (config.roles.includes('worker')) {
    app.connectMicroservice({ strategy: app.get<CustomTransportStrategy>(EVENT_SERVER) });
    await app.init(); // otherwise events would arrive before their handlers are initialized
    await app.startAllMicroservices();
  }
}
