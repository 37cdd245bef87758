import { Module } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { PrometheusModule } from '@willsoto/nestjs-prometheus';
import { LoggerModule } from 'nestjs-pino';
import { logDestination } from './log-destination';
import { loggerOptions } from './logger-options';
import { MetricsController } from './metrics.controller';

/** Logs and metrics. Requests are logged by `httpTelemetry`, so nestjs-pino needs no middleware of its own. */
@Module({
  imports: [
    LoggerModule.forRootAsync({
      inject: [CONFIG],
      useFactory: (config: Config) => ({ pinoHttp: [loggerOptions(config), logDestination] as const, forRoutes: [] }),
    }),
    PrometheusModule.register({ controller: MetricsController }),
  ],
})
export class ObservabilityModule {}
