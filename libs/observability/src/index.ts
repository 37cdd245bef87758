export { createLogger } from './create-logger';
export { countShed, FOR_OPERATORS, httpTelemetry } from './http-telemetry';
export { flushLogs } from './log-destination';
export { ObservabilityModule } from './observability.module';
