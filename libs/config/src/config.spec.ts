import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inspect } from 'node:util';
import { loadConfig, type Needs } from './config';
import { ConfigError } from './config-error';

const CANARY = 'canary';
const SECRET = `${CANARY}-secret-of-at-least-32-characters`;

const REQUIRED = {
  DATABASE_URL: 'postgres://user:password@db.example:5432/orders',
  OIDC_ISSUER: 'https://id.example',
  OIDC_AUDIENCE: 'https://orders.example',
};

const SASL = {
  KAFKA_SASL_MECHANISM: 'scram-sha-512',
  KAFKA_SASL_USERNAME: 'user',
  KAFKA_SASL_PASSWORD: 'password',
};

const TOKEN = {
  PAYMENT_API_TOKEN_URL: 'https://id.example/oauth/token',
  PAYMENT_API_CLIENT_ID: 'order-service',
  PAYMENT_API_CLIENT_SECRET: 'a secret',
};

const EVERYTHING = {
  NODE_ENV: 'test',
  HOST: '127.0.0.1',
  PORT: '8080',
  ROLES: 'worker',
  LOG_LEVEL: 'debug',
  SHUTDOWN_DELAY_MS: '0',
  KEEP_ALIVE_MS: '620000',
  DATABASE_URL: 'postgresql://user:password@pooler.example/orders',
  DATABASE_DIRECT_URL: 'postgres://user:password@db.example/orders',
  DATABASE_MIGRATION_URL: 'postgres://owner:password@db.example/orders',
  DATABASE_POOL_SIZE: '20',
  OIDC_ISSUER: 'http://127.0.0.1:4000',
  OIDC_AUDIENCE: 'https://orders.example',
  OIDC_TENANT_CLAIM: 'org',
  OIDC_SCOPE_CLAIM: 'roles',
  OIDC_REQUIRE_AT_JWT: 'true',
  OIDC_JWKS_STALE_MAX_MINUTES: '0.05',
  OIDC_SHARED_SECRET: SECRET,
  MTLS_MODE: 'required',
  MTLS_CLIENT_NAME: 'required',
  TLS_CERT_FILE: '/tls/tls.crt',
  TLS_KEY_FILE: '/tls/tls.key',
  TLS_CLIENT_CA_FILE: '/tls/ca.crt',
  TRUSTED_PROXIES: '10.0.0.0/8, 192.0.2.1, fd00::/8,::1',
  CLIENT_CERT_HEADER: 'Client-Cert',
  IDEMPOTENCY_TTL_HOURS: '24',
  OUTBOX_RETENTION_HOURS: '48',
  INBOX_RETENTION_DAYS: '60',
  ORDER_RETENTION_DAYS: '3650',
  AUDIT_RETENTION_DAYS: '400',
  OUTBOX_RELAY: 'off',
  KAFKA_BROKERS: 'kafka-1.example:9092, 127.0.0.1:9093,',
  KAFKA_SSL: 'true',
  ...SASL,
  KAFKA_CONSUMER_GROUP: 'orders-blue',
  REDIS_URL: 'rediss://user:password@redis.example:6380/1',
  OTEL_EXPORTER_OTLP_ENDPOINT: 'https://collector.example/otlp/',
  OTEL_EXPORTER_OTLP_HEADERS: 'api-key=a%20key=, other=1',
  OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
  RATE_LIMIT_PER_MINUTE: '600',
  RATE_LIMIT_OVERRIDES: 'order-orchestrator=60000, https://app.example/?a=b=0,',
  RATE_LIMIT_FAILED_AUTH_PER_MINUTE: '60',
  PAYMENT_API_URL: 'https://payments.example/api',
  PAYMENT_API_ATTEMPT_TIMEOUT_MS: '1',
  PAYMENT_API_DEADLINE_MS: '2',
  PAYMENT_API_MAX_ATTEMPTS: '3',
  PAYMENT_API_BACKOFF_MS: '4',
  PAYMENT_API_BACKOFF_MAX_MS: '5',
  PAYMENT_API_MAX_CONCURRENT: '6',
  PAYMENT_API_BREAKER_FAILURE_PERCENT: '7',
  PAYMENT_API_BREAKER_MIN_CALLS: '8',
  PAYMENT_API_BREAKER_WINDOW_MS: '9000',
  PAYMENT_API_BREAKER_OPEN_MS: '1000',
  ...TOKEN,
  PAYMENT_API_SCOPE: 'payments:write',
  PAYMENT_GIVE_UP_HOURS: '0.5',
  AUDIT_KEY: 'a-new-key-of-at-least-32-characters, an-old-key-of-at-least-32-characters',
  PSEUDONYM_KEY: 'another-key-of-at-least-32-characters',
};

const load = (variables: Record<string, string | undefined> = {}) =>
  loadConfig('things', { ...REQUIRED, ...variables });

function refusalOf(environment: Record<string, string | undefined>, needs?: Needs): ConfigError {
  try {
    loadConfig('things', environment, needs);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('The environment was accepted');
}

const faultsOf = (variables: Record<string, string | undefined>) => refusalOf({ ...REQUIRED, ...variables }).faults;
const namesIn = (faults: readonly string[]) => faults.map((fault) => fault.split(' ')[0]);

/** Everything reachable from a value that is an object, itself included. */
function objectsIn(value: unknown): object[] {
  if (typeof value !== 'object' || value === null) return [];
  return [value, ...Object.values(value).flatMap(objectsIn)];
}

const PAIRS = 'must be a list of key=value,…, each key once, with values percent-encoded';

describe('loadConfig', () => {
  it('has a default for everything but the database, the issuer and the audience', () => {
    expect(load()).toStrictEqual({
      service: 'things',
      env: 'development',
      host: '0.0.0.0',
      port: 3000,
      roles: ['api', 'worker'],
      logLevel: 'info',
      shutdownDelayMs: 5_000,
      keepAliveMs: 65_000,
      database: {
        url: REQUIRED.DATABASE_URL,
        directUrl: REQUIRED.DATABASE_URL,
        migrationUrl: REQUIRED.DATABASE_URL,
        poolSize: 10,
      },
      oidc: {
        issuer: 'https://id.example',
        audience: 'https://orders.example',
        tenantClaim: undefined,
        scopeClaim: undefined,
        requireAtJwt: false,
        jwksStaleMaxMs: 24 * 3_600_000,
        sharedSecret: undefined,
      },
      auditKeys: ['known-to-everyone-not-for-production'],
      pseudonymKey: 'known-to-everyone-not-for-production',
      usesKnownKeys: true,
      mtls: { mode: 'off', namesClient: false, clientCaFile: undefined, certificateHeader: undefined },
      tls: undefined,
      trustedProxies: [],
      idempotencyTtlHours: 168,
      retention: { outboxHours: 24, inboxDays: 35, orderDays: 0, auditDays: 0 },
      outboxRelay: true,
      kafka: undefined,
      redisUrl: undefined,
      spans: undefined,
      rateLimit: { perMinute: 6_000, overrides: [], failedAuthPerMinute: 6_000 },
      paymentApi: undefined,
      paymentGiveUpMs: 24 * 3_600_000,
    });
  });

  it('knows no key in production but those that it is given', () => {
    expect(load({ NODE_ENV: 'production' })).toMatchObject({ auditKeys: undefined, pseudonymKey: undefined });
  });

  it('says that one of the keys is known to everyone, also when the other is not', () => {
    expect(load({ AUDIT_KEY: SECRET }).usesKnownKeys).toBe(true);
    expect(load({ PSEUDONYM_KEY: SECRET }).usesKnownKeys).toBe(true);
    expect(load({ AUDIT_KEY: SECRET, PSEUDONYM_KEY: SECRET }).usesKnownKeys).toBe(false);
  });

  it('lets OTEL_RESOURCE_ATTRIBUTES give the service another name', () => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector', OTEL_RESOURCE_ATTRIBUTES: 'service.name=mine' };
    expect(load(env).spans?.resource).toEqual({ 'service.name': 'mine' });
  });

  it('has migrations go around a pooler, too, where they are given no address of their own', () => {
    const DATABASE_DIRECT_URL = 'postgres://db.example/around-the-pooler';
    expect(load({ DATABASE_DIRECT_URL }).database.migrationUrl).toBe(DATABASE_DIRECT_URL);
  });

  it('reads every variable', () => {
    expect(loadConfig('things', EVERYTHING)).toStrictEqual({
      service: 'things',
      env: 'test',
      host: '127.0.0.1',
      port: 8080,
      roles: ['worker'],
      logLevel: 'debug',
      shutdownDelayMs: 0,
      keepAliveMs: 620_000,
      database: {
        url: 'postgresql://user:password@pooler.example/orders',
        directUrl: 'postgres://user:password@db.example/orders',
        migrationUrl: 'postgres://owner:password@db.example/orders',
        poolSize: 20,
      },
      oidc: {
        issuer: 'http://127.0.0.1:4000',
        audience: 'https://orders.example',
        tenantClaim: 'org',
        scopeClaim: 'roles',
        requireAtJwt: true,
        jwksStaleMaxMs: 3_000,
        sharedSecret: SECRET,
      },
      auditKeys: ['a-new-key-of-at-least-32-characters', 'an-old-key-of-at-least-32-characters'],
      pseudonymKey: 'another-key-of-at-least-32-characters',
      usesKnownKeys: false,
      mtls: { mode: 'required', namesClient: true, clientCaFile: '/tls/ca.crt', certificateHeader: 'client-cert' },
      tls: { certFile: '/tls/tls.crt', keyFile: '/tls/tls.key' },
      trustedProxies: ['10.0.0.0/8', '192.0.2.1', 'fd00::/8', '::1'],
      idempotencyTtlHours: 24,
      retention: { outboxHours: 48, inboxDays: 60, orderDays: 3_650, auditDays: 400 },
      outboxRelay: false,
      kafka: {
        clientId: 'things',
        brokers: ['kafka-1.example:9092', '127.0.0.1:9093'],
        ssl: true,
        sasl: { mechanism: 'scram-sha-512', username: 'user', password: 'password' },
        consumerGroup: 'orders-blue',
      },
      redisUrl: 'rediss://user:password@redis.example:6380/1',
      spans: {
        url: 'https://collector.example/otlp/v1/traces',
        headers: { 'api-key': 'a key=', other: '1' },
        resource: { 'service.name': 'things', 'deployment.environment.name': 'test' },
      },
      rateLimit: {
        perMinute: 600,
        overrides: [
          ['order-orchestrator', 60_000],
          ['https://app.example/?a=b', 0],
        ],
        failedAuthPerMinute: 60,
      },
      paymentApi: {
        url: 'https://payments.example/api',
        attemptTimeoutMs: 1,
        deadlineMs: 2,
        maxAttempts: 3,
        backoffMs: 4,
        backoffMaxMs: 5,
        maxConcurrent: 6,
        token: {
          url: 'https://id.example/oauth/token',
          clientId: 'order-service',
          clientSecret: 'a secret',
          scope: 'payments:write',
        },
        breaker: { failurePercent: 7, minCalls: 8, windowMs: 9_000, openMs: 1_000 },
      },
      paymentGiveUpMs: 1_800_000,
    });
  });

  it('has a default for how the payment API is called', () => {
    expect(load({ PAYMENT_API_URL: 'http://127.0.0.1:4100' }).paymentApi).toStrictEqual({
      url: 'http://127.0.0.1:4100',
      attemptTimeoutMs: 2_000,
      deadlineMs: 7_000,
      maxAttempts: 3,
      backoffMs: 100,
      backoffMaxMs: 2_000,
      maxConcurrent: 20,
      token: undefined,
      breaker: { failurePercent: 50, minCalls: 20, windowMs: 10_000, openMs: 5_000 },
    });
  });

  it('takes an empty variable as unset', () => {
    const optional = Object.keys(EVERYTHING).filter((name) => !(name in REQUIRED));
    expect(load(Object.fromEntries(optional.map((name) => [name, ''])))).toEqual(load());
  });

  it.each(Object.keys(REQUIRED))('refuses to go without %s, unset or empty', (name) => {
    expect(faultsOf({ [name]: undefined })).toEqual([`${name} is required`]);
    expect(faultsOf({ [name]: '' })).toEqual([`${name} is required`]);
  });

  it('ignores variables that are not its own', () => {
    expect(load({ PATH: '/bin', KAFKA_OPTS: 'x', port: '1' })).toEqual(load());
  });

  it('leaves Kafka out without brokers', () => {
    expect(load({ KAFKA_SSL: 'true', ...SASL }).kafka).toBeUndefined();
  });

  it('uses Kafka without SASL and SSL where only brokers are given', () => {
    const kafka = {
      brokers: ['127.0.0.1:9092'],
      ssl: false,
      sasl: undefined,
      clientId: 'things',
      consumerGroup: 'things',
    };
    expect(load({ KAFKA_BROKERS: '127.0.0.1:9092' }).kafka).toStrictEqual(kafka);
  });

  it.each([
    ['api', ['api']],
    ['worker', ['worker']],
    ['worker,api', ['worker', 'api']],
    [' api , worker ', ['api', 'worker']],
    ['api,api', ['api']],
    ['api,', ['api']],
  ])('reads ROLES=%s', (value, roles) => {
    expect(load({ ROLES: value }).roles).toEqual(roles);
  });

  it.each([
    ['PORT', '0', '65535', (config: ReturnType<typeof load>) => config.port],
    ['SHUTDOWN_DELAY_MS', '0', '300000', (config: ReturnType<typeof load>) => config.shutdownDelayMs],
    ['KEEP_ALIVE_MS', '1000', '7200000', (config: ReturnType<typeof load>) => config.keepAliveMs],
    ['DATABASE_POOL_SIZE', '1', '1000', (config: ReturnType<typeof load>) => config.database.poolSize],
    ['IDEMPOTENCY_TTL_HOURS', '1', '8760', (config: ReturnType<typeof load>) => config.idempotencyTtlHours],
    ['RATE_LIMIT_PER_MINUTE', '0', '10000000', (config: ReturnType<typeof load>) => config.rateLimit.perMinute],
    ['OUTBOX_RETENTION_HOURS', '1', '8760', (config: ReturnType<typeof load>) => config.retention.outboxHours],
    ['INBOX_RETENTION_DAYS', '31', '3650', (config: ReturnType<typeof load>) => config.retention.inboxDays],
  ])('takes %s from %s to %s and nothing beyond', (name, min, max, read) => {
    const message = `${name} must be an integer from ${min} to ${max}`;
    expect(read(load({ [name]: min }))).toBe(Number(min));
    expect(read(load({ [name]: max }))).toBe(Number(max));
    expect(faultsOf({ [name]: String(Number(min) - 1) })).toEqual([message]);
    expect(faultsOf({ [name]: String(Number(max) + 1) })).toEqual([message]);
  });

  it.each(['many', '80.5', '1e3', '0x50', '+80', ' 80', '80 ', '80,81', 'NaN', 'Infinity', '9'.repeat(400)])(
    'refuses PORT=%s',
    (value) => {
      expect(faultsOf({ PORT: value })).toEqual(['PORT must be an integer from 0 to 65535']);
    },
  );

  it.each([
    ['NODE_ENV', 'Production', 'must be one of: development, test, production'],
    ...['api,admin', 'API', ' , '].map((value) => [
      'ROLES',
      value,
      'must be a comma-separated list of one or more of: api, worker',
    ]),
    ['LOG_LEVEL', 'verbose', 'must be one of: trace, debug, info, warn, error, fatal, silent'],
    ['DATABASE_URL', 'mysql://db.example/orders', 'must be a URL that begins with postgres:// or postgresql://'],
    ['DATABASE_URL', 'db.example', 'must be a URL that begins with postgres:// or postgresql://'],
    ['DATABASE_MIGRATION_URL', 'db.example', 'must be a URL that begins with postgres:// or postgresql://'],
    ['DATABASE_DIRECT_URL', 'https://db.example', 'must be a URL that begins with postgres:// or postgresql://'],
    ['OIDC_ISSUER', 'id.example', 'must be a URL that begins with http:// or https://'],
    ['OIDC_ISSUER', 'ftp://id.example', 'must be a URL that begins with http:// or https://'],
    ['OIDC_REQUIRE_AT_JWT', 'yes', 'must be one of: true, false'],
    ['OIDC_JWKS_STALE_MAX_MINUTES', '0', 'must be a number from 0.01 to 525600'],
    ['OIDC_JWKS_STALE_MAX_MINUTES', '1d', 'must be a number from 0.01 to 525600'],
    ['OIDC_SHARED_SECRET', 'x'.repeat(31), 'must have at least 32 characters'],
    ['OUTBOX_RELAY', 'false', 'must be one of: on, off'],
    ['KAFKA_BROKERS', 'kafka.example', 'must be a comma-separated list of host:port'],
    ['KAFKA_BROKERS', 'kafka.example:9092,kafka.example', 'must be a comma-separated list of host:port'],
    ['KAFKA_BROKERS', 'kafka://kafka.example:9092', 'must be a comma-separated list of host:port'],
    ['KAFKA_BROKERS', 'kafka.example:65536', 'must be a comma-separated list of host:port'],
    ['KAFKA_CONSUMER_GROUP', 'x'.repeat(201), 'must have at most 200 characters'],
    ['KAFKA_SSL', '1', 'must be one of: true, false'],
    ['REDIS_URL', 'redis.example:6379', 'must be a URL that begins with redis:// or rediss://'],
    ...['a', 'a=', '=1', ' =1', 'a=x', 'a=-1', 'a=1.5', 'a=10000001', 'a=1,a=2', 'a=1,b'].map((value) => [
      'RATE_LIMIT_OVERRIDES',
      value,
      'must be a list of client=limit,…, each client once, from 0 to 10000000',
    ]),
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4317', 'must be a URL that begins with http:// or https://'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'https://u:p@collector.example', 'must have no user and no password in it'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'https://collector.example/?key=1', 'must have no query and no fragment'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'https://collector.example/?', 'must have no query and no fragment'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'https://collector.example/#a', 'must have no query and no fragment'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'a(b)=1', 'must be headers that HTTP allows'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'a=1%0a2', 'must be headers that HTTP allows'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'a=1,a=2', PAIRS],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'api-key', PAIRS],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'a=1,=2', PAIRS],
    ['OTEL_RESOURCE_ATTRIBUTES', 'a=%zz', PAIRS],
    ['OTEL_RESOURCE_ATTRIBUTES', 'a=b c', PAIRS],
    ['PAYMENT_API_URL', '127.0.0.1:4100', 'must be a URL that begins with http:// or https://'],
    ['PAYMENT_API_URL', 'https://u:p@payments.example', 'must have no user and no password in it'],
    ['PAYMENT_API_URL', 'https://payments.example/api?key=1', 'must have no query and no fragment'],
    ['PAYMENT_API_MAX_ATTEMPTS', '0', 'must be an integer from 1 to 10'],
    ['PAYMENT_API_BREAKER_FAILURE_PERCENT', '101', 'must be an integer from 1 to 100'],
    ['PAYMENT_GIVE_UP_HOURS', '0', 'must be a number from 0.001 to 8760'],
    ['PAYMENT_GIVE_UP_HOURS', '1h', 'must be a number from 0.001 to 8760'],
  ])('refuses %s=%s', (name, value, message) => {
    expect(faultsOf({ [name]: value })).toEqual([`${name} ${message}`]);
  });

  it('refuses a list of no brokers', () => {
    expect(namesIn(faultsOf({ KAFKA_BROKERS: ',' }))).toEqual(['KAFKA_BROKERS']);
  });

  it('takes a shared secret of 32 characters', () => {
    expect(load({ OIDC_SHARED_SECRET: 'x'.repeat(32) }).oidc.sharedSecret).toBe('x'.repeat(32));
  });

  it('refuses a shared secret in production, however good', () => {
    const faults = faultsOf({ NODE_ENV: 'production', OIDC_SHARED_SECRET: SECRET });
    expect(faults).toEqual(['OIDC_SHARED_SECRET must not be set when NODE_ENV=production']);
  });

  it.each([
    ['AUDIT_KEY', 'known-to-everyone-not-for-production'],
    ['AUDIT_KEY', `${SECRET},local-only-audit-key-not-for-production`],
    ['PSEUDONYM_KEY', 'local-only-pseudonym-key-not-for-production'],
    ['KAFKA_SASL_PASSWORD', 'sandbox-secret-not-for-production'],
  ])('refuses %s=%s in production, and there alone', (name, value) => {
    const given = { ...SASL, [name]: value };
    expect(faultsOf({ NODE_ENV: 'production', ...given })).toEqual([
      `${name} is known to everyone, which NODE_ENV=production refuses`,
    ]);
    expect(() => load(given)).not.toThrow();
  });

  it('knows the keys of compose.yaml for what everyone knows, and takes them there', () => {
    const compose = readFileSync('compose.yaml', 'utf8');
    const [, lines = ''] = /environment: &environment\n((?: {4}.+\n)+)/.exec(compose) ?? [];
    const given = Object.fromEntries(
      [...lines.matchAll(/^ {4}(\w+): (\S+)/gm)].map(([, name, value]) => [name, value]),
    );
    expect(() => loadConfig('things', given)).not.toThrow();
    expect(namesIn(refusalOf({ ...given, NODE_ENV: 'production' }).faults)).toEqual(['AUDIT_KEY', 'PSEUDONYM_KEY']);
  });

  it.each(['development', 'test'])('takes a shared secret in %s', (env) => {
    expect(load({ NODE_ENV: env, OIDC_SHARED_SECRET: SECRET }).oidc.sharedSecret).toBe(SECRET);
  });

  it.each([undefined, ''])('starts in production without a shared secret: %p', (secret) => {
    expect(load({ NODE_ENV: 'production', OIDC_SHARED_SECRET: secret }).oidc.sharedSecret).toBeUndefined();
  });

  describe.each([{ ...SASL }, { ...TOKEN }] as Record<string, string>[])('what goes together: %j', (together) => {
    const names = Object.keys(together);
    const isRequired = (name: string, first: string | undefined) => `${name} is required when ${first} is set`;

    it.each(names)('is not %s alone', (name) => {
      const others = names.filter((other) => other !== name);
      expect(faultsOf({ [name]: together[name] })).toEqual(others.map((other) => isRequired(other, name)));
    });

    it.each(names)('is not all but %s, unset or empty', (name) => {
      const first = names.find((other) => other !== name);
      expect(faultsOf({ ...together, [name]: undefined })).toEqual([isRequired(name, first)]);
      expect(faultsOf({ ...together, [name]: '' })).toEqual([isRequired(name, first)]);
    });
  });

  it('wants to know where a scope is asked for', () => {
    expect(faultsOf({ PAYMENT_API_SCOPE: 'payments:write' })).toEqual([
      'PAYMENT_API_TOKEN_URL is required when PAYMENT_API_SCOPE is set',
    ]);
  });

  it.each(['plain', 'scram-sha-256', 'scram-sha-512'])('takes the SASL mechanism %s', (mechanism) => {
    const config = load({ KAFKA_BROKERS: 'kafka.example:9092', ...SASL, KAFKA_SASL_MECHANISM: mechanism });
    expect(config.kafka?.sasl).toEqual({ mechanism, username: 'user', password: 'password' });
  });

  const TLS = { TLS_CERT_FILE: '/tls/tls.crt', TLS_KEY_FILE: '/tls/tls.key', TLS_CLIENT_CA_FILE: '/tls/ca.crt' };
  const PROXY = { TRUSTED_PROXIES: '10.0.0.0/8', CLIENT_CERT_HEADER: 'Client-Cert' };

  it.each([
    '10.0.0.0/0',
    '10.0.0.0/7',
    '::/0',
    '::/8',
    '::/64',
    '::fffe:0:0/95',
    '0:0:0:0:0:ffff:0:0/96',
    '::ffff:64.0.0.0/98',
    '10.0.0.0/33',
    '::1/129',
    '10.0.0',
    '10.0.0.1/8/8',
    '10.0.0.0/',
    'proxy.example',
    ',',
  ])('refuses %s for a trusted proxy', (network) =>
    expect(namesIn(faultsOf({ TRUSTED_PROXIES: network }))).toEqual(['TRUSTED_PROXIES']),
  );

  it.each(['Client Cert', 'Client-Cert:', 'Client_Cert', 'x'.repeat(65)])('refuses %s for a header', (header) => {
    expect(namesIn(faultsOf({ ...PROXY, CLIENT_CERT_HEADER: header }))).toEqual(['CLIENT_CERT_HEADER']);
  });

  it.each([
    'Authorization',
    'Host',
    'Content-Length',
    'If-Match',
    'x-forwarded-for',
    'X-Request-Id',
    'Idempotency-Key',
  ])('refuses %s for the header of certificates, because it has another use', (header) => {
    const faults = faultsOf({ ...PROXY, CLIENT_CERT_HEADER: header });
    expect(faults).toEqual(['CLIENT_CERT_HEADER must not be a header that has another use']);
  });

  it.each<[string, string, Record<string, string | undefined>]>([
    ['a certificate without its key', 'TLS_KEY_FILE', { TLS_CERT_FILE: '/tls/tls.crt' }],
    ['a key without its certificate', 'TLS_CERT_FILE', { TLS_KEY_FILE: '/tls/tls.key' }],
    ['a header of certificates that nobody is trusted with', 'TRUSTED_PROXIES', { CLIENT_CERT_HEADER: 'Client-Cert' }],
    ['optional certificates that nobody can show', 'MTLS_MODE', { MTLS_MODE: 'optional' }],
    ['own TLS without a client CA', 'MTLS_MODE', { ...TLS, TLS_CLIENT_CA_FILE: '', MTLS_MODE: 'required' }],
    ['a client CA without own TLS', 'MTLS_MODE', { TLS_CLIENT_CA_FILE: '/tls/ca.crt', MTLS_MODE: 'required' }],
    ['proxies without a header', 'MTLS_MODE', { TRUSTED_PROXIES: '10.0.0.0/8', MTLS_MODE: 'required' }],
    ['a name that is required of no certificate', 'MTLS_CLIENT_NAME', { MTLS_CLIENT_NAME: 'required' }],
  ])('refuses %s', (_, name, variables) => expect(namesIn(faultsOf(variables))).toEqual([name]));

  it.each(['optional', 'required'])('takes %s client certificates from own TLS, or from proxies', (mode) => {
    expect(load({ ...TLS, MTLS_MODE: mode }).mtls.mode).toBe(mode);
    expect(load({ ...PROXY, MTLS_MODE: mode }).mtls.mode).toBe(mode);
  });

  describe('with needs of roles', () => {
    const NEEDS: Needs = { api: ['PSEUDONYM_KEY'], worker: ['PAYMENT_API_URL', 'AUDIT_KEY'] };

    const faultsFor = (changes: Record<string, string | undefined>) =>
      refusalOf({ ...REQUIRED, ...changes }, NEEDS).faults;

    it.each<[string | undefined, string[]]>([
      [undefined, ['PSEUDONYM_KEY for api', 'PAYMENT_API_URL for worker', 'AUDIT_KEY for worker']],
      ['api', ['PSEUDONYM_KEY for api']],
      ['worker', ['PAYMENT_API_URL for worker', 'AUDIT_KEY for worker']],
    ])('refuses the roles %s without what they need in production', (roles, missing) => {
      const faults = missing.map((one) => one.replace(' for', ' is required for the role'));
      expect(faultsFor({ NODE_ENV: 'production', ROLES: roles })).toEqual(faults);
    });

    it('knows the keys elsewhere', () => {
      expect(faultsFor({})).toEqual(['PAYMENT_API_URL is required for the role worker']);
    });

    it('takes what is given, in files too', () => {
      const env = { NODE_ENV: 'production', PAYMENT_API_URL: 'http://p', PSEUDONYM_KEY: SECRET, AUDIT_KEY: SECRET };
      expect(() => loadConfig('things', { ...REQUIRED, ...env }, NEEDS)).not.toThrow();
      const fault = 'PSEUDONYM_KEY_FILE names a file that cannot be read (ENOENT)';
      expect(faultsFor({ ...env, PSEUDONYM_KEY: '', PSEUDONYM_KEY_FILE: '/nowhere' })).toEqual([fault]);
    });

    it('names them together with all others', () => {
      const faults = faultsFor({ NODE_ENV: 'production', PORT: 'x', ROLES: 'worker,' });
      expect(namesIn(faults)).toEqual(['PORT', 'PAYMENT_API_URL', 'AUDIT_KEY']);
    });

    it('are no needs of a program that takes no role', () => {
      expect(() => load({ NODE_ENV: 'production' })).not.toThrow();
    });
  });

  describe('with everything wrong', () => {
    const wrong = {
      NODE_ENV: CANARY,
      PORT: CANARY,
      ROLES: `api,${CANARY}`,
      LOG_LEVEL: CANARY,
      SHUTDOWN_DELAY_MS: CANARY,
      KEEP_ALIVE_MS: CANARY,
      DATABASE_URL: `mysql://${CANARY}:${CANARY}@${CANARY}/${CANARY}`,
      DATABASE_DIRECT_URL: CANARY,
      DATABASE_MIGRATION_URL: CANARY,
      DATABASE_POOL_SIZE: CANARY,
      OIDC_ISSUER: `ftp://${CANARY}`,
      OIDC_SHARED_SECRET: CANARY,
      MTLS_MODE: CANARY,
      MTLS_CLIENT_NAME: CANARY,
      TRUSTED_PROXIES: `10.0.0.0/8,${CANARY}`,
      CLIENT_CERT_HEADER: `${CANARY}:`,
      IDEMPOTENCY_TTL_HOURS: CANARY,
      OUTBOX_RELAY: CANARY,
      KAFKA_BROKERS: `${CANARY},${CANARY}`,
      KAFKA_SSL: CANARY,
      KAFKA_SASL_MECHANISM: CANARY,
      KAFKA_SASL_USERNAME: CANARY,
      REDIS_URL: `http://:${CANARY}@${CANARY}`,
      RATE_LIMIT_OVERRIDES: CANARY,
    };

    it('names every fault at once, and each once', () => {
      const expected = [...Object.keys(wrong).filter((name) => name !== 'KAFKA_SASL_USERNAME')];
      const { faults } = refusalOf(wrong);
      expect(namesIn(faults).sort()).toEqual([...expected, 'OIDC_AUDIENCE', 'KAFKA_SASL_PASSWORD'].sort());
    });

    it('names faults between variables together with the others', () => {
      const faults = faultsOf({
        NODE_ENV: 'production',
        PORT: 'x',
        OIDC_AUDIENCE: undefined,
        OIDC_SHARED_SECRET: SECRET,
        KAFKA_SASL_USERNAME: 'user',
      });
      expect(namesIn(faults).sort()).toEqual([
        'KAFKA_SASL_MECHANISM',
        'KAFKA_SASL_PASSWORD',
        'OIDC_AUDIENCE',
        'OIDC_SHARED_SECRET',
        'PORT',
      ]);
    });

    it('has every fault in the message', () => {
      const { message, faults } = refusalOf(wrong);
      for (const fault of faults) expect(message).toContain(`\n  ${fault}`);
    });

    it.each<[string, Record<string, string>]>([
      ['wrong everywhere', wrong],
      ['a shared secret in production', { ...REQUIRED, NODE_ENV: 'production', OIDC_SHARED_SECRET: SECRET }],
      ['a password without a user', { ...REQUIRED, KAFKA_SASL_PASSWORD: CANARY }],
      ['a good password beside a wrong port', { ...REQUIRED, ...SASL, KAFKA_SASL_PASSWORD: CANARY, PORT: 'x' }],
      ['credentials in URLs', { ...REQUIRED, DATABASE_URL: `postgres://u:${CANARY}@h/d`, OIDC_ISSUER: `x:${CANARY}` }],
      ['values of variables unknown', { [`${CANARY}_NAME`]: CANARY, OTHER: CANARY }],
    ])('prints no value: %s', (_, environment) => {
      const error = refusalOf(environment);
      const printed = [
        error.message,
        error.stack,
        JSON.stringify(error),
        inspect(error, { depth: 10, showHidden: true }),
      ];
      expect(printed.join('\n')).not.toContain(CANARY);
    });
  });

  describe('with secrets in files', () => {
    let folder: string;
    const file = (content: string) => {
      const name = path.join(folder, 'secret');
      writeFileSync(name, content);
      return name;
    };

    beforeAll(() => {
      folder = mkdtempSync(path.join(tmpdir(), 'config-'));
    });
    afterAll(() => rmSync(folder, { recursive: true }));

    const { DATABASE_URL } = REQUIRED;
    const sasl = { KAFKA_BROKERS: '127.0.0.1:9092', ...SASL };

    it.each<[string, string, Record<string, string>, (config: ReturnType<typeof load>) => unknown]>([
      ['DATABASE_URL', DATABASE_URL, {}, ({ database }) => database.url],
      ['DATABASE_DIRECT_URL', DATABASE_URL, {}, ({ database }) => database.directUrl],
      ['OIDC_SHARED_SECRET', SECRET, {}, ({ oidc }) => oidc.sharedSecret],
      ['KAFKA_SASL_USERNAME', 'from a file', sasl, ({ kafka }) => kafka?.sasl?.username],
      ['KAFKA_SASL_PASSWORD', ' from a file ', sasl, ({ kafka }) => kafka?.sasl?.password],
    ])('reads %s without the line feed at its end', (name, value, others, read) => {
      const given = { ...others, [name]: undefined };
      expect(read(load({ ...given, [`${name}_FILE`]: file(`${value}\n`) }))).toBe(value);
      expect(read(load({ ...given, [`${name}_FILE`]: file(`${value}\r\n`) }))).toBe(value);
      expect(read(load({ ...given, [`${name}_FILE`]: file(value) }))).toBe(value);
    });

    it('refuses a secret that is given in both ways', () => {
      const faults = faultsOf({ DATABASE_URL_FILE: file(DATABASE_URL) });
      expect(faults).toEqual(['DATABASE_URL and DATABASE_URL_FILE must not both be set']);
    });

    it('takes an empty variable beside a file as unset', () => {
      expect(load({ DATABASE_URL: '', DATABASE_URL_FILE: file(DATABASE_URL) }).database.url).toBe(DATABASE_URL);
      expect(load({ DATABASE_URL_FILE: '' }).database.url).toBe(DATABASE_URL);
    });

    it.each([
      ['not-there', 'ENOENT'],
      ['.', 'EISDIR'],
    ])('names a file that cannot be read by its variable alone, and says why: %s', (name, code) => {
      const error = refusalOf({ ...REQUIRED, DATABASE_URL: undefined, DATABASE_URL_FILE: path.join(folder, name) });
      expect(error.faults).toEqual([`DATABASE_URL_FILE names a file that cannot be read (${code})`]);
      expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(folder);
    });

    it('says nothing else of a secret whose file is amiss', () => {
      const faults = faultsOf({ ...SASL, KAFKA_SASL_PASSWORD: undefined, KAFKA_SASL_PASSWORD_FILE: folder });
      expect(faults).toEqual(['KAFKA_SASL_PASSWORD_FILE names a file that cannot be read (EISDIR)']);
    });

    it.each(['', '\n'])('refuses a file that holds nothing: %j', (content) => {
      const faults = faultsOf({ OIDC_SHARED_SECRET_FILE: file(content) });
      expect(faults).toEqual(['OIDC_SHARED_SECRET_FILE names a file that is empty']);
    });

    it('prints nothing of a file whose content is wrong', () => {
      const error = refusalOf({ ...REQUIRED, DATABASE_URL: undefined, DATABASE_URL_FILE: file(`mysql://${CANARY}`) });
      expect(namesIn(error.faults)).toEqual(['DATABASE_URL']);
      expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(CANARY);
    });

    it('refuses a shared secret in production in a file too', () => {
      const faults = faultsOf({ NODE_ENV: 'production', OIDC_SHARED_SECRET_FILE: file(SECRET) });
      expect(faults).toEqual(['OIDC_SHARED_SECRET must not be set when NODE_ENV=production']);
    });
  });

  it.each<[string, Record<string, string>]>([
    ['by default', REQUIRED],
    ['with everything set', EVERYTHING],
  ])('is frozen deeply %s', (_, environment) => {
    const config = loadConfig('things', environment);
    for (const object of objectsIn(config)) expect(Object.isFrozen(object)).toBe(true);
    expect(() => Object.assign(config.database, { url: 'postgres://elsewhere' })).toThrow(TypeError);
  });

  it('keeps nothing of an earlier environment', () => {
    loadConfig('things', EVERYTHING);
    expect(load()).toMatchObject({ env: 'development', roles: ['api', 'worker'], kafka: undefined });
  });
});
