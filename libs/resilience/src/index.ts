export { InjectOutbound } from './inject-outbound.decorator';
export { OutboundClient } from './outbound-client';
export { OutboundFailure } from './outbound-failure';
export type { OutboundRequest, OutboundResponse } from './outbound-request';
export { ResilienceModule } from './resilience.module';
export { parseRetryAfter } from './retry-pause';
