import { loadConfig } from '@platform/config';
import { NEEDS } from './app.module';
import { settingsWithoutTls } from './settings-without-tls';

const PRODUCTION = {
  NODE_ENV: 'production',
  DATABASE_URL: 'postgres://a@db.example/orders',
  OIDC_ISSUER: 'https://id.example',
  OIDC_AUDIENCE: 'orders',
  AUDIT_KEY: 'a'.repeat(32),
  PSEUDONYM_KEY: 'b'.repeat(32),
  PAYMENT_API_URL: 'https://payments.example',
  PAYMENT_API_TOKEN_URL: 'https://id.example',
  PAYMENT_API_CLIENT_ID: 'a',
  PAYMENT_API_CLIENT_SECRET: 'b',
  KAFKA_BROKERS: 'kafka.example:9092',
};
const SASL = { KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_USERNAME: 'a', KAFKA_SASL_PASSWORD: 'b' };
const HEADERS = { OTEL_EXPORTER_OTLP_HEADERS: 'api-key=a' };

const found = (variables: NodeJS.ProcessEnv) =>
  settingsWithoutTls(loadConfig('order-service', { ...PRODUCTION, ...variables }, NEEDS));

describe('Settings without TLS', () => {
  it.each<[string, NodeJS.ProcessEnv]>([
    ['OIDC_ISSUER', { OIDC_ISSUER: 'http://id.example' }],
    ['PAYMENT_API_URL', { PAYMENT_API_URL: 'http://payments.example' }],
    ['PAYMENT_API_TOKEN_URL', { PAYMENT_API_TOKEN_URL: 'http://id.example' }],
    ['KAFKA_SASL_PASSWORD', SASL],
    ['REDIS_URL', { REDIS_URL: 'redis://:a@redis.example' }],
    ['OTEL_EXPORTER_OTLP_HEADERS', { ...HEADERS, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector.example' }],
  ])('are found in production, each by itself: %s', (name, variables) => {
    expect(found(variables)).toEqual([name]);
    expect(found({ ...variables, NODE_ENV: 'development' })).toEqual([]);
  });

  it('are none where all has TLS', () => {
    const secure = { REDIS_URL: 'rediss://:a@redis.example', OTEL_EXPORTER_OTLP_ENDPOINT: 'https://collector.example' };
    expect(found({ ...SASL, KAFKA_SSL: 'true', ...HEADERS, ...secure })).toEqual([]);
  });

  it('are none where nothing that is sent is a secret', () => {
    const open = { REDIS_URL: 'redis://redis.example', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector.example' };
    expect(found(open)).toEqual([]);
  });
});
