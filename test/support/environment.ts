import { AUDIENCE, TENANT_CLAIM } from '../../apps/sandbox/src/settings';
import { pieces } from './pieces';

/** What the service is told in tests, apart from what a test changes. Without Kafka unless a test asks for it. */
export function environment(overrides: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return {
    NODE_ENV: 'test',
    HOST: '127.0.0.1',
    PORT: '0',
    LOG_LEVEL: 'silent',
    SHUTDOWN_DELAY_MS: '0',
    RATE_LIMIT_PER_MINUTE: '0',
    RATE_LIMIT_FAILED_AUTH_PER_MINUTE: '0',
    OIDC_ISSUER: pieces().issuer,
    OIDC_AUDIENCE: AUDIENCE,
    OIDC_TENANT_CLAIM: TENANT_CLAIM,
    PAYMENT_API_URL: pieces().paymentApi,
    // Services of one test share their consumer group as they share their database, and no other's.
    KAFKA_CONSUMER_GROUP: overrides['DATABASE_URL']?.replace(/^.*\//, ''),
    ...overrides,
  };
}
