import { Module } from '@nestjs/common';
import { PrometheusModule } from '@willsoto/nestjs-prometheus';
import { MetricsController } from './metrics.controller';

/** Metrics. Logs need no module: `createLogger` makes the application's logger, and `httpTelemetry` logs requests. */
@Module({ imports: [PrometheusModule.register({ controller: MetricsController })] })
export class ObservabilityModule {}
