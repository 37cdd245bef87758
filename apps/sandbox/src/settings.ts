import path from 'node:path';

/**
 * The only place in the sandbox that reads the environment. A dependency whose address is given there has no port here.
 */
export function readSettings(env: NodeJS.ProcessEnv = process.env) {
  const faults: string[] = [];
  const port = (name: string, standard: number) => {
    const text = env[name] || String(standard);
    const value = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
    if (!(value >= 1 && value <= 65_535)) faults.push(`${name} must be a port from 1 to 65535`);
    return { name, value };
  };
  const dataDir = path.resolve('.sandbox');
  const settings = {
    env,
    /** What the sandbox keeps between starts. */
    dataDir,
    /** What `npm run certs` has written, if it was run. */
    certsDir: path.join(dataDir, 'certs'),
    servicePort: port('PORT', 3000),
    postgres: env['DATABASE_URL'] ? undefined : port('SANDBOX_POSTGRES_PORT', 54320),
    identityProvider: env['OIDC_ISSUER'] ? undefined : port('SANDBOX_OIDC_PORT', 4000),
    /** Where clients authenticate with certificates. */
    identityProviderTls: env['OIDC_ISSUER'] ? undefined : port('SANDBOX_OIDC_TLS_PORT', 4443),
    payments: env['PAYMENT_API_URL'] ? undefined : port('SANDBOX_PAYMENT_PORT', 4100),
    /** Where `npm run kafka` starts a broker; its controller has the next port. */
    kafka: port('SANDBOX_KAFKA_PORT', 9092),
    kafkaBrokers: env['KAFKA_BROKERS'] || undefined,
  };
  if (faults.length > 0) throw new Error(faults.join('\n'));
  return settings;
}

/** libpq's variables (`PGSSLMODE`, `PGOPTIONS`, …), which pg obeys too, are about other databases than the sandbox's. */
export function forgetOtherDatabases(): void {
  for (const name of Object.keys(process.env)) if (name.startsWith('PG')) delete process.env[name];
}

export const AUDIENCE = 'https://orders.example';

/** The claim in which the identity provider names a client's tenant. */
export const TENANT_CLAIM = 'tenant';

/** The service's login in PostgreSQL: a member of the group role to which migrations grant the privileges. */
export const SERVICE_LOGIN = { name: 'order_service_login', group: 'order_service' };

export const CLIENT_SECRET = 'sandbox-secret-not-for-production';

/** The clients that the identity provider knows. */
export const CLIENTS = [
  { id: 'order-orchestrator', tenant: 'acme', scope: 'orders:read orders:write' },
  { id: 'reporting', tenant: 'acme', scope: 'orders:read' },
  { id: 'other-tenant', tenant: 'globex', scope: 'orders:read orders:write' },
  { id: 'compliance', tenant: 'acme', scope: 'privacy:erase audit:read' },
];
