import { Module, type OnApplicationBootstrap } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { PrometheusModule } from '@willsoto/nestjs-prometheus';
import { startFailureCountersAtZero } from './http-telemetry';
import { MetricsController } from './metrics.controller';

/** Metrics. Logs need no module: `createLogger` makes the application's logger, and `httpTelemetry` logs requests. */
@Module({ imports: [PrometheusModule.register({ controller: MetricsController })] })
export class ObservabilityModule implements OnApplicationBootstrap {
  constructor(private readonly http: HttpAdapterHost) {}

  /** By now all routes are registered. */
  onApplicationBootstrap(): void {
    startFailureCountersAtZero(this.http);
  }
}
