export { createLogger } from './create-logger';
export { countShed, httpTelemetry, OPERATIONAL_PATHS } from './http-telemetry';
export { flushLogs } from './log-destination';
export { ObservabilityModule } from './observability.module';
