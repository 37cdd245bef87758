export { httpTelemetry } from './http-telemetry';
export { ObservabilityModule } from './observability.module';
