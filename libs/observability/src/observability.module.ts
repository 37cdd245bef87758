import { Module } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { PrometheusModule } from '@willsoto/nestjs-prometheus';
import { LoggerModule } from 'nestjs-pino';
import { loggerOptions } from './logger-options';
import { MetricsController } from './metrics.controller';

/** Logs and metrics. Requests are logged by `httpTelemetry`, so nestjs-pino needs no middleware of its own. */
@Module({
  imports: [
    LoggerModule.forRootAsync({
      inject: [CONFIG],
      useFactory: (config: Config) => ({
        // Our serializers shall see errors as they are, not as pino-http's have already made them.
        pinoHttp: { ...loggerOptions(config), wrapSerializers: false },
        forRoutes: [],
      }),
    }),
    PrometheusModule.register({ controller: MetricsController }),
  ],
})
export class ObservabilityModule {}
