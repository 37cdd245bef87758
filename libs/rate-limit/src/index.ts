export { ClientRateLimit } from './client-rate-limit';
export { CallCounter } from './call-counter';
export { FailedAuthentications } from './failed-authentications';
export { RateLimitModule } from './rate-limit.module';
