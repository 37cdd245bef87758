export { createLogger } from './create-logger';
export { httpTelemetry } from './http-telemetry';
export { ObservabilityModule } from './observability.module';
