export { fingerprint, keyDigest } from './fingerprint';
export { IDEMPOTENCY_KEY_SCHEMA, idempotencyKey } from './idempotency-key';
export { IdempotencyModule } from './idempotency.module';
export { IdempotencyStore, type KeyedRequest } from './idempotency-store';
