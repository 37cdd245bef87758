import { readFileSync } from 'node:fs';
import { validateHeaderName, validateHeaderValue } from 'node:http';
import { BlockList, isIP } from 'node:net';
import { z } from 'zod';
import { ConfigError } from './config-error';

const ROLES = ['api', 'worker'] as const;

/** What a process does: `api` serves HTTP, `worker` relays the outbox and consumes events. */
export type Role = (typeof ROLES)[number];

const list = (value: string) =>
  value
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');

const numeric = (form: RegExp, accepts: (number: number) => boolean, message: string) =>
  z.string().transform((value, ctx) => {
    const number = form.test(value) ? Number(value) : NaN;
    if (accepts(number)) return number;
    ctx.addIssue({ code: 'custom', message });
    return z.NEVER;
  });

const INTEGER = /^\d+$/;

const between = (min: number, max: number) => (number: number) => number >= min && number <= max;

const integer = (min: number, max: number) =>
  numeric(INTEGER, between(min, max), `must be an integer from ${min} to ${max}`);

const zeroOr = (min: number, max: number) =>
  numeric(
    INTEGER,
    (number) => number === 0 || between(min, max)(number),
    `must be 0 or an integer from ${min} to ${max}`,
  );

const decimal = (min: number, max: number) =>
  numeric(/^\d+(\.\d+)?$/, between(min, max), `must be a number from ${min} to ${max}`);

const url = (...protocols: string[]) =>
  z.string().refine((value) => URL.canParse(value) && protocols.includes(new URL(value).protocol), {
    message: `must be a URL that begins with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`,
  });

const isWithoutCredentials = [
  (value: string) => !URL.canParse(value) || new URL(value).username + new URL(value).password === '',
  { message: 'must have no user and no password in it' },
] as const;

/** An HTTP URL without credentials, query and fragment. It may have a path. */
const plainUrl = url('http:', 'https:')
  .refine(...isWithoutCredentials)
  .refine((value) => !/[?#]/.test(value), { message: 'must have no query and no fragment' });

const oneOf = <const T extends readonly string[]>(...values: T) =>
  z.enum(values, { message: `must be one of: ${values.join(', ')}` });

const flag = oneOf('true', 'false').transform((value) => value === 'true');

const isHostAndPort = (value: string) => {
  const port = /^(?:\[[\da-f:]+\]|[^\s:/[\]]+):(\d{1,5})$/i.exec(value)?.[1];
  return port !== undefined && Number(port) <= 65_535;
};

/** An IP address or a CIDR. Very large networks are refused, because a trusted proxy can claim any client address. */
const isNetwork = (value: string) => {
  const [address = '', prefix, ...rest] = value.split('/');
  const bits = { 0: 0, 4: 32, 6: 128 }[isIP(address)] ?? 0;
  if (bits === 0 || address.includes('%') || rest.length > 0) return false;
  if (prefix === undefined) return true;
  // Nobody owns a network larger than a /8. For IPv4 addresses in IPv6-mapped form that is a /104.
  if (!/^\d{1,3}$/.test(prefix) || Number(prefix) < 8 || Number(prefix) > bits) return false;
  return bits === 32 || Number(prefix) >= 104 || !overlapsMappedIPv4(address, Number(prefix));
};

/** Whether an IPv6 network overlaps with the IPv4-mapped addresses (`::ffff:0:0/96`). */
function overlapsMappedIPv4(address: string, prefix: number): boolean {
  const network = new BlockList();
  network.addSubnet(address, prefix, 'ipv6');
  const mapped = new BlockList();
  mapped.addSubnet('::ffff:0:0', 96, 'ipv6');
  return mapped.check(address, 'ipv6') || network.check('::ffff:0:0', 'ipv6');
}

/** Headers with another meaning: a header for certificates is removed from requests that no trusted proxy forwards. */
const NOT_FOR_CERTIFICATES =
  /^(authorization|cookie|host|connection|te|transfer-encoding|content-.*|accept.*|if-.*|x-forwarded-.*|x-request-id|idempotency-key|traceparent)$/i;

/** `name=limit,…`; a name may contain `=`. */
const limits = (max: number) =>
  z.string().transform((value, ctx): (readonly [string, number])[] => {
    const entries = list(value).map((entry) => /^(.+)=(\d+)$/.exec(entry)?.slice(1) ?? []);
    const pairs = entries.map(([name = '', limit]) => [name.trim(), Number(limit)] as const);
    const names = new Set(pairs.map(([name]) => name));
    if (names.size === pairs.length && pairs.every(([name, limit]) => name !== '' && limit <= max)) return pairs;
    ctx.addIssue({ code: 'custom', message: `must be a list of client=limit,…, each client once, from 0 to ${max}` });
    return z.NEVER;
  });

/** `key=value,…` with percent-encoded values: OpenTelemetry's format. */
const pairs = z.string().transform((value, ctx): Record<string, string> => {
  const entries = list(value).map((entry) => /^([^\s=]+)\s*=\s*([\x21-\x7e]+)$/.exec(entry)?.slice(1) ?? []);
  try {
    const decoded = entries.map(([key = '', text = '']) => [key, decodeURIComponent(text)] as const);
    const pairs = new Map(decoded);
    if (pairs.size === entries.length && !pairs.has('')) return Object.fromEntries(pairs);
  } catch {
    // reported below
  }
  ctx.addIssue({
    code: 'custom',
    message: 'must be a list of key=value,…, each key once, with values percent-encoded',
  });
  return z.NEVER;
});

const headers = pairs.refine(areHeaders, { message: 'must be headers that HTTP allows' });

function areHeaders(pairs: Record<string, string>): boolean {
  try {
    for (const [name, value] of Object.entries(pairs)) {
      validateHeaderName(name);
      validateHeaderValue(name, value);
    }
    return true;
  } catch {
    return false;
  }
}

const required = { error: 'is required' };
const ROLES_EXPECTED = `must be a comma-separated list of one or more of: ${ROLES.join(', ')}`;

/** Variables for calling another service, without their prefix. `docs/resilience.md` explains the defaults. */
const OUTBOUND = {
  URL: plainUrl.optional(),
  ATTEMPT_TIMEOUT_MS: integer(1, 60_000).default(2_000),
  DEADLINE_MS: integer(1, 120_000).default(7_000),
  MAX_ATTEMPTS: integer(1, 10).default(3),
  BACKOFF_MS: integer(1, 60_000).default(100),
  BACKOFF_MAX_MS: integer(1, 60_000).default(2_000),
  MAX_CONCURRENT: integer(1, 1_000).default(20),
  BREAKER_FAILURE_PERCENT: integer(1, 100).default(50),
  BREAKER_MIN_CALLS: integer(1, 10_000).default(20),
  BREAKER_WINDOW_MS: integer(1_000, 600_000).default(10_000),
  BREAKER_OPEN_MS: integer(100, 600_000).default(5_000),
  TOKEN_URL: plainUrl.optional(),
  CLIENT_ID: z.string().optional(),
  CLIENT_SECRET: z.string().optional(),
  SCOPE: z.string().optional(),
};

/** The services that are called over HTTP: prefixes of their variables. */
const DEPENDENCIES = ['PAYMENT_API'] as const;
type Dependency = (typeof DEPENDENCIES)[number];

const MAX_CALLS = 10_000_000;
/** Each may also be given as `<NAME>_FILE`, the path of a file that contains it, as orchestrators mount secrets. */
const SECRETS = [
  'DATABASE_URL',
  'DATABASE_DIRECT_URL',
  'DATABASE_MIGRATION_URL',
  'REDIS_URL',
  'OTEL_EXPORTER_OTLP_HEADERS',
  'OIDC_SHARED_SECRET',
  'AUDIT_KEY',
  'PSEUDONYM_KEY',
  'KAFKA_SASL_USERNAME',
  'KAFKA_SASL_PASSWORD',
  ...DEPENDENCIES.map((dependency) => `${dependency}_CLIENT_SECRET` as const),
] as const;

type ForEach<P extends string, T> = { [K in keyof T & string as `${P}_${K}`]: T[K] };

/** The properties of `shape` once for each prefix. */
function forEach<const P extends string, T extends object>(prefixes: readonly P[], shape: T) {
  const entries = prefixes.flatMap((prefix) =>
    Object.entries(shape).map(([name, type]) => [`${prefix}_${name}`, type] as const),
  );
  return Object.fromEntries(entries) as ForEach<P, T>;
}

const environment = z.object({
  NODE_ENV: oneOf('development', 'test', 'production').default('development'),
  HOST: z.string().default('0.0.0.0'),
  PORT: integer(0, 65535).default(3000),
  ROLES: z
    .string()
    .transform((value) => [...new Set(list(value))])
    .pipe(z.array(z.enum(ROLES, ROLES_EXPECTED)).min(1, ROLES_EXPECTED))
    .default([...ROLES]),
  LOG_LEVEL: oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent').default('info'),
  SHUTDOWN_DELAY_MS: integer(0, 300_000).default(5_000),
  KEEP_ALIVE_MS: integer(1_000, 7_200_000).default(65_000),

  DATABASE_URL: z.string(required).pipe(url('postgres:', 'postgresql:')),
  DATABASE_DIRECT_URL: url('postgres:', 'postgresql:').optional(),
  DATABASE_MIGRATION_URL: url('postgres:', 'postgresql:').optional(),
  DATABASE_POOL_SIZE: integer(1, 1_000).default(10),

  OIDC_ISSUER: z
    .string(required)
    .pipe(url('http:', 'https:'))
    .refine(...isWithoutCredentials),
  OIDC_AUDIENCE: z.string(required).trim().min(1, 'is required'),
  OIDC_TENANT_CLAIM: z.string().optional(),
  OIDC_SCOPE_CLAIM: z.string().optional(),
  OIDC_REQUIRE_AT_JWT: flag.default(false),
  OIDC_JWKS_STALE_MAX_MINUTES: decimal(0.01, 525_600).default(1_440),
  OIDC_SHARED_SECRET: z.string().min(32, 'must have at least 32 characters').optional(),

  AUDIT_KEY: z
    .string()
    .transform(list)
    .refine((keys) => keys.length > 0 && keys.every((key) => key.length >= 32), {
      message: 'must be a comma-separated list of keys of at least 32 characters',
    })
    .optional(),
  PSEUDONYM_KEY: z.string().min(32, 'must have at least 32 characters').optional(),
  MTLS_MODE: oneOf('off', 'optional', 'required').default('off'),
  MTLS_CLIENT_NAME: oneOf('off', 'required').default('off'),
  TLS_CERT_FILE: z.string().optional(),
  TLS_KEY_FILE: z.string().optional(),
  TLS_CLIENT_CA_FILE: z.string().optional(),
  TRUSTED_PROXIES: z
    .string()
    .transform(list)
    .refine((networks) => networks.length > 0 && networks.every(isNetwork), {
      message: 'must be a comma-separated list of IP addresses or CIDRs, none of which is larger than a /8',
    })
    .optional(),
  CLIENT_CERT_HEADER: z
    .string()
    .regex(/^[A-Za-z\d-]{1,64}$/, 'must be the name of a header')
    .refine((name) => !NOT_FOR_CERTIFICATES.test(name), 'must not be a header that has another use')
    .optional(),

  IDEMPOTENCY_TTL_HOURS: integer(1, 8_760).default(168),

  OUTBOX_RETENTION_HOURS: integer(1, 8_760).default(24),
  INBOX_RETENTION_DAYS: integer(31, 3_650).default(35),
  ORDER_RETENTION_DAYS: zeroOr(31, 36_500).default(0),
  AUDIT_RETENTION_DAYS: zeroOr(30, 36_500).default(0),

  OUTBOX_RELAY: oneOf('on', 'off').default('on'),
  KAFKA_BROKERS: z
    .string()
    .transform(list)
    .refine((brokers) => brokers.length > 0 && brokers.every(isHostAndPort), {
      message: 'must be a comma-separated list of host:port',
    })
    .optional(),
  KAFKA_SSL: flag.default(false),
  KAFKA_SASL_MECHANISM: oneOf('plain', 'scram-sha-256', 'scram-sha-512').optional(),
  KAFKA_SASL_USERNAME: z.string().optional(),
  KAFKA_SASL_PASSWORD: z.string().optional(),
  KAFKA_CONSUMER_GROUP: z.string().max(200, 'must have at most 200 characters').optional(),

  REDIS_URL: url('redis:', 'rediss:').optional(),
  OTEL_EXPORTER_OTLP_ENDPOINT: plainUrl.optional(),
  OTEL_EXPORTER_OTLP_HEADERS: headers.default({}),
  OTEL_RESOURCE_ATTRIBUTES: pairs.default({}),
  RATE_LIMIT_PER_MINUTE: integer(0, MAX_CALLS).default(6_000),
  RATE_LIMIT_OVERRIDES: limits(MAX_CALLS).default([]),
  RATE_LIMIT_FAILED_AUTH_PER_MINUTE: integer(0, MAX_CALLS).default(6_000),

  ...forEach(DEPENDENCIES, OUTBOUND),
  PAYMENT_GIVE_UP_HOURS: decimal(0.001, 8_760).default(24),
});

type Environment = z.infer<typeof environment>;

/** Names of all variables that are read, for checking deployment files against them. */
export const VARIABLES: readonly string[] = [
  ...Object.keys(environment.shape),
  ...SECRETS.map((name) => `${name}_FILE`),
];

/** The variables that each role requires. */
export type Needs = Readonly<Record<Role, readonly (keyof Environment)[]>>;

/** Outside production these have publicly known defaults. */
const KEYS: readonly string[] = ['AUDIT_KEY', 'PSEUDONYM_KEY'] satisfies (keyof Environment)[];

function faultsOfRoles(env: Record<string, string>, needs: Needs): string[] {
  const roles = env['ROLES'] === undefined ? ROLES : ROLES.filter((role) => list(env['ROLES'] ?? '').includes(role));
  const isMissing = (name: string) =>
    env[name] === undefined && (env['NODE_ENV'] === 'production' || !KEYS.includes(name));
  return roles.flatMap((role) =>
    needs[role].filter(isMissing).map((name) => `${name} is required for the role ${role}`),
  );
}

/** If one of a group is set, all have to be. */
const TOGETHER = [
  ['TLS_CERT_FILE', 'TLS_KEY_FILE'],
  ['KAFKA_SASL_MECHANISM', 'KAFKA_SASL_USERNAME', 'KAFKA_SASL_PASSWORD'],
  ...DEPENDENCIES.map((dependency) =>
    ['TOKEN_URL', 'CLIENT_ID', 'CLIENT_SECRET'].map((name) => `${dependency}_${name}`),
  ),
];

/** Part of every publicly known secret: those in this repository and its development set-up. */
const NOT_FOR_PRODUCTION = 'not-for-production';

/** Faults in combinations of variables. Reads the raw environment, so that all faults are reported together. */
function faultsBetween(env: Record<string, string>): string[] {
  const faults: string[] = [];
  if (env['NODE_ENV'] === 'production') {
    if (env['OIDC_SHARED_SECRET'] !== undefined) {
      faults.push('OIDC_SHARED_SECRET must not be set when NODE_ENV=production');
    }
    const known = SECRETS.filter((name) => env[name]?.includes(NOT_FOR_PRODUCTION));
    faults.push(...known.map((name) => `${name} is known to everyone, which NODE_ENV=production refuses`));
  }
  for (const names of TOGETHER) {
    const first = names.find((name) => env[name] !== undefined);
    const missing = first === undefined ? [] : names.filter((name) => env[name] === undefined);
    faults.push(...missing.map((name) => `${name} is required when ${first} is set`));
  }
  const isSet = (...names: string[]) => names.every((name) => env[name] !== undefined);
  const requires = (name: string, other: string) => {
    if (isSet(name) && !isSet(other)) faults.push(`${other} is required when ${name} is set`);
  };
  requires('CLIENT_CERT_HEADER', 'TRUSTED_PROXIES');
  for (const dependency of DEPENDENCIES) requires(`${dependency}_SCOPE`, `${dependency}_TOKEN_URL`);
  if (env['MTLS_MODE'] === 'optional' || env['MTLS_MODE'] === 'required') {
    const canSeeCertificates = isSet('TLS_CERT_FILE', 'TLS_CLIENT_CA_FILE') || isSet('CLIENT_CERT_HEADER');
    if (!canSeeCertificates) {
      const ways = 'TLS_CERT_FILE, TLS_KEY_FILE and TLS_CLIENT_CA_FILE, or TRUSTED_PROXIES and CLIENT_CERT_HEADER';
      faults.push(`MTLS_MODE other than off needs ${ways}`);
    }
  } else if (env['MTLS_CLIENT_NAME'] === 'required') {
    faults.push('MTLS_CLIENT_NAME must not be required when MTLS_MODE is off');
  }
  return faults;
}

function outbound(env: Environment, url: string, dependency: Dependency) {
  return {
    url,
    /** Timeout of one attempt, reading the response included, in milliseconds like everything that ends in `Ms`. */
    attemptTimeoutMs: env[`${dependency}_ATTEMPT_TIMEOUT_MS`],
    /** For all attempts together with the pauses between them. */
    deadlineMs: env[`${dependency}_DEADLINE_MS`],
    maxAttempts: env[`${dependency}_MAX_ATTEMPTS`],
    /** Upper bound of the first pause. It doubles with each further pause, up to `backoffMaxMs`. */
    backoffMs: env[`${dependency}_BACKOFF_MS`],
    backoffMaxMs: env[`${dependency}_BACKOFF_MAX_MS`],
    maxConcurrent: env[`${dependency}_MAX_CONCURRENT`],
    /** Where access tokens for it come from; undefined if it is called without. */
    token: tokenSource(env, dependency),
    breaker: {
      failurePercent: env[`${dependency}_BREAKER_FAILURE_PERCENT`],
      minCalls: env[`${dependency}_BREAKER_MIN_CALLS`],
      windowMs: env[`${dependency}_BREAKER_WINDOW_MS`],
      openMs: env[`${dependency}_BREAKER_OPEN_MS`],
    },
  };
}

function tokenSource(env: Environment, dependency: Dependency) {
  const [url, clientId] = [env[`${dependency}_TOKEN_URL`], env[`${dependency}_CLIENT_ID`]];
  const clientSecret = env[`${dependency}_CLIENT_SECRET`];
  if (url === undefined || clientId === undefined || clientSecret === undefined) return undefined;
  return { url, clientId, clientSecret, scope: env[`${dependency}_SCOPE`] };
}

/** Default of `AUDIT_KEY` and `PSEUDONYM_KEY` outside production. */
const KEY_OUTSIDE_PRODUCTION = `known-to-everyone-${NOT_FOR_PRODUCTION}`;

function toConfig(service: string, env: Environment) {
  const isProduction = env.NODE_ENV === 'production';
  return {
    /** The service's name, used to identify it to PostgreSQL, Kafka, Redis and the trace collector. */
    service,
    env: env.NODE_ENV,
    host: env.HOST,
    port: env.PORT,
    roles: env.ROLES as readonly Role[],
    logLevel: env.LOG_LEVEL,
    /** How long the process keeps serving after SIGTERM made it not ready, in milliseconds. */
    shutdownDelayMs: env.SHUTDOWN_DELAY_MS,
    /** How long a connection without a request stays open, in milliseconds. */
    keepAliveMs: env.KEEP_ALIVE_MS,
    database: {
      url: env.DATABASE_URL,
      /** Bypasses any transaction pooler: session-level locks need that. */
      directUrl: env.DATABASE_DIRECT_URL ?? env.DATABASE_URL,
      /** For migrations only: also bypasses any pooler, and connects as the role that owns the tables. */
      migrationUrl: env.DATABASE_MIGRATION_URL ?? env.DATABASE_DIRECT_URL ?? env.DATABASE_URL,
      poolSize: env.DATABASE_POOL_SIZE,
    },
    oidc: {
      issuer: env.OIDC_ISSUER,
      audience: env.OIDC_AUDIENCE,
      tenantClaim: env.OIDC_TENANT_CLAIM,
      /** The claim with the scopes, where it is neither `scope` nor `scp`. */
      scopeClaim: env.OIDC_SCOPE_CLAIM,
      /** Whether tokens must declare themselves to be access tokens: `typ` of RFC 9068. */
      requireAtJwt: env.OIDC_REQUIRE_AT_JWT,
      /** How long the provider's keys are trusted after they were last fetched, in milliseconds. */
      jwksStaleMaxMs: env.OIDC_JWKS_STALE_MAX_MINUTES * 60_000,
      sharedSecret: env.OIDC_SHARED_SECRET,
    },
    /** The first key seals the audit trail. Blocks sealed with any of them verify. Always set in workers. */
    auditKeys: env.AUDIT_KEY ?? (isProduction ? undefined : [KEY_OUTSIDE_PRODUCTION]),
    /** Key of the pseudonyms that replace erased customers. Always set where the API is served. */
    pseudonymKey: env.PSEUDONYM_KEY ?? (isProduction ? undefined : KEY_OUTSIDE_PRODUCTION),
    mtls: {
      mode: env.MTLS_MODE,
      /** Whether a certificate must name the client of the token that it comes with. */
      namesClient: env.MTLS_CLIENT_NAME === 'required',
      clientCaFile: env.TLS_CLIENT_CA_FILE,
      /** In lower case, like Node's header names. Only believed if it comes from `trustedProxies`. */
      certificateHeader: env.CLIENT_CERT_HEADER?.toLowerCase(),
    },
    /** Set if the service terminates TLS itself. */
    tls: env.TLS_CERT_FILE === undefined ? undefined : { certFile: env.TLS_CERT_FILE, keyFile: env.TLS_KEY_FILE ?? '' },
    /** IP addresses and CIDRs. */
    trustedProxies: env.TRUSTED_PROXIES ?? [],
    /** Whether `auditKeys` or `pseudonymKey` is the publicly known default. */
    usesKnownKeys: !isProduction && (env.AUDIT_KEY === undefined || env.PSEUDONYM_KEY === undefined),
    idempotencyTtlHours: env.IDEMPOTENCY_TTL_HOURS,
    /** Minimum time for which data is kept after it is no longer needed. */
    retention: {
      outboxHours: env.OUTBOX_RETENTION_HOURS,
      inboxDays: env.INBOX_RETENTION_DAYS,
      /** 0 keeps orders for ever. */
      orderDays: env.ORDER_RETENTION_DAYS,
      /** 0 keeps the audit trail for ever. */
      auditDays: env.AUDIT_RETENTION_DAYS,
    },
    outboxRelay: env.OUTBOX_RELAY === 'on',
    kafka: env.KAFKA_BROKERS && {
      clientId: service,
      brokers: env.KAFKA_BROKERS,
      ssl: env.KAFKA_SSL,
      sasl: env.KAFKA_SASL_MECHANISM && {
        mechanism: env.KAFKA_SASL_MECHANISM,
        username: env.KAFKA_SASL_USERNAME ?? '',
        password: env.KAFKA_SASL_PASSWORD ?? '',
      },
      consumerGroup: env.KAFKA_CONSUMER_GROUP ?? service,
    },
    redisUrl: env.REDIS_URL,
    /** Where spans are exported to, with which headers and resource attributes; undefined if none are. */
    spans:
      env.OTEL_EXPORTER_OTLP_ENDPOINT === undefined
        ? undefined
        : {
            url: `${env.OTEL_EXPORTER_OTLP_ENDPOINT.replace(/\/$/, '')}/v1/traces`,
            headers: env.OTEL_EXPORTER_OTLP_HEADERS,
            resource: { 'service.name': service, ...env.OTEL_RESOURCE_ATTRIBUTES } as Record<string, string>,
          },
    /** Calls per minute; 0 means no limit. */
    rateLimit: {
      perMinute: env.RATE_LIMIT_PER_MINUTE,
      /** Pairs of a client id, in any tenant, and its own limit. */
      overrides: env.RATE_LIMIT_OVERRIDES,
      /** Failed authentications from one address. */
      failedAuthPerMinute: env.RATE_LIMIT_FAILED_AUTH_PER_MINUTE,
    },
    /** Always set in workers. */
    paymentApi: env.PAYMENT_API_URL === undefined ? undefined : outbound(env, env.PAYMENT_API_URL, 'PAYMENT_API'),
    /** How long a payment may stay unknown before its order is rejected, in milliseconds. */
    paymentGiveUpMs: env.PAYMENT_GIVE_UP_HOURS * 3_600_000,
  };
}

type DeepReadonly<T> = T extends (infer U)[]
  ? readonly U[]
  : T extends object
    ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
    : T;

/** The whole configuration, typed and deeply frozen. `docs/operations.md` describes the variables. */
export type Config = DeepReadonly<ReturnType<typeof toConfig>>;

/** Settings for calling another service. */
export type OutboundSettings = NonNullable<Config['paymentApi']>;

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}

/**
 * Reads the secrets that are given as files into `env`, under the secrets' own names.
 * @returns faults by the name of the secret
 */
function readSecretFiles(env: Record<string, string>): Map<string, string> {
  const faults = new Map<string, string>();
  for (const name of SECRETS) {
    const path = env[`${name}_FILE`];
    if (path === undefined) continue;
    if (env[name] !== undefined) {
      faults.set(name, `${name} and ${name}_FILE must not both be set`);
      continue;
    }
    env[name] = '';
    try {
      env[name] = readFileSync(path, 'utf8').replace(/[\r\n]+$/, '');
      if (env[name] === '') faults.set(name, `${name}_FILE names a file that is empty`);
    } catch (error) {
      const { code = 'no reason given' } = error as NodeJS.ErrnoException; // without the path, which is a value
      faults.set(name, `${name}_FILE names a file that cannot be read (${code})`);
    }
  }
  return faults;
}

/**
 * Reads and validates the environment. Empty variables count as unset: Kubernetes manifests often leave some empty.
 * @param service name of the service
 * @param needs variables that each role requires; left out by programs that take no role
 * @throws {ConfigError} naming every wrong variable and no value
 */
export function loadConfig(service: string, source: NodeJS.ProcessEnv = process.env, needs?: Needs): Config {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(source)) {
    if (value !== undefined && value !== '') env[name] = value;
  }
  const unread = readSecretFiles(env);
  const parsed = environment.safeParse(env);
  const wrong = parsed.error?.issues.filter(({ path }) => !unread.has(String(path[0]))) ?? [];
  const faults = new Set(wrong.map((issue) => `${String(issue.path[0])} ${issue.message}`));
  const others = [...unread.values(), ...faultsBetween(env), ...(needs ? faultsOfRoles(env, needs) : [])];
  for (const fault of others) faults.add(fault);
  if (!parsed.success || faults.size > 0) throw new ConfigError([...faults]);
  return deepFreeze(toConfig(service, parsed.data));
}
