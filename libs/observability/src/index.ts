export { createLogger } from './create-logger';
export { countShed, httpTelemetry } from './http-telemetry';
export { ObservabilityModule } from './observability.module';
