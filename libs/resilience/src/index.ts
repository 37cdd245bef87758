export { InjectOutbound } from './inject-outbound.decorator';
export { OutboundClient } from './outbound-client';
export { type OutboundFailureKind, OutboundFailure } from './outbound-failure';
export type { OutboundMetrics } from './outbound-metrics';
export type { OutboundAnswer, OutboundRequest } from './outbound-request';
export { ResilienceModule } from './resilience.module';
