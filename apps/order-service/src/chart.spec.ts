import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { loadConfig, VARIABLES } from '@platform/config';
import { SERVICE_NAME } from './service-name';

const CHART = path.join(__dirname, '../../../helm/order-service');

interface Schema {
  properties?: Record<string, Schema>;
  type?: string;
  enum?: string[];
  minimum?: number;
  maximum?: number;
  anyOf?: Schema[];
}

const read = (...file: string[]) => readFileSync(path.join(CHART, ...file), 'utf8');
const schema = JSON.parse(read('values.schema.json')) as Schema;

/** The names of the variables that values of the chart may hold. */
function namesInValues(...keys: string[]): string[] {
  const at = keys.reduce<Schema | undefined>((found, key) => found?.properties?.[key], schema);
  return Object.keys(at?.properties ?? {});
}

/** Read by Node.js itself. */
const OF_NODE = ['NODE_EXTRA_CA_CERTS'];

const given = [
  ...namesInValues('config'),
  ...namesInValues('secrets', 'values', 'service'),
  ...namesInValues('secrets', 'values', 'migration'),
];

/** What looks like a variable in a template; Envoy has its own, between percent signs. */
const inTemplates = readdirSync(path.join(CHART, 'templates')).flatMap(
  (file) => read('templates', file).match(/(?<!%)\b(?:[A-Z]+(?:_[A-Z]+)+|PORT|ROLES|HOST)\b/g) ?? [],
);

describe('helm/order-service', () => {
  it('has values for variables and secrets at all', () => {
    expect(given).toEqual(expect.arrayContaining(['OIDC_ISSUER', 'AUDIT_KEY', 'DATABASE_MIGRATION_URL']));
    expect(inTemplates).toEqual(expect.arrayContaining(['ROLES', 'TLS_CERT_FILE', 'PSEUDONYM_KEY']));
  });

  it('sets no variable that the service does not read', () => {
    expect([...given, ...inTemplates].filter((name) => ![...VARIABLES, ...OF_NODE].includes(name))).toEqual([]);
  });

  it('hands every secret of the service to a container', () => {
    const [, handed = ''] =
      /define "order-service\.secretEnv"([^]*?)define/.exec(read('templates', '_helpers.tpl')) ?? [];
    const names = namesInValues('secrets', 'values', 'service');
    expect(names.filter((name) => !handed.includes(`"${name}"`))).toEqual([]);
  });

  it('can set every variable that the service reads in production', () => {
    const known = new Set([...given, ...inTemplates]);
    // Production refuses the shared secret, and secrets come as variables, not as files.
    const left = VARIABLES.filter(
      (name) => !known.has(name) && !(name.endsWith('_FILE') && known.has(name.slice(0, -5))),
    );
    expect(left).toEqual(['OIDC_SHARED_SECRET', 'OIDC_SHARED_SECRET_FILE']);
  });

  /** With what else it needs, and at its defaults. */
  const takes = (name: string, value: unknown) => {
    const others = { DATABASE_URL: 'postgres://db/orders', OIDC_ISSUER: 'https://id.example', OIDC_AUDIENCE: 'orders' };
    const mtls = { MTLS_MODE: 'required', TRUSTED_PROXIES: '10.0.0.1', CLIENT_CERT_HEADER: 'x-client-cert' };
    const sasl = { KAFKA_SASL_USERNAME: 'u', KAFKA_SASL_PASSWORD: 'p', KAFKA_SASL_MECHANISM: 'plain' };
    try {
      loadConfig(SERVICE_NAME, { ...others, ...mtls, ...sasl, [name]: String(value) });
      return true;
    } catch {
      return false;
    }
  };

  const settings = Object.entries(schema.properties?.['config']?.properties ?? {});

  it('lets through the numbers that the service takes, and no others', () => {
    const numbers = settings.filter(([, { type }]) => type === 'integer' || type === 'number');
    expect(numbers.length).toBeGreaterThan(20);
    for (const [name, { type, minimum, maximum = NaN, anyOf }] of numbers) {
      const least = minimum ?? anyOf?.find((way) => way.minimum !== undefined)?.minimum ?? NaN;
      const step = type === 'integer' ? 1 : 0.0005;
      const edges = [least - step, least, maximum, maximum + step].map((value) => takes(name, value));
      expect([name, edges]).toEqual([name, [false, true, true, false]]);
      expect([name, takes(name, 0)]).toEqual([name, least === 0 || anyOf !== undefined]);
    }
  });

  it('lets through the words that the service takes, and a truth where it takes one', () => {
    const words = settings.filter(([, { type, enum: values }]) => type === 'boolean' || values);
    expect(words.length).toBeGreaterThan(5);
    for (const [name, { enum: values = ['true', 'false'] }] of words) {
      expect([name, values.filter((value) => !takes(name, value))]).toEqual([name, []]);
      expect([name, takes(name, 'surprise')]).toEqual([name, false]);
    }
  });

  it('refuses to set by hand what follows from other values', () => {
    const derived = ['NODE_ENV', 'ROLES', 'PORT', 'MTLS_MODE', 'TLS_CERT_FILE', 'TLS_KEY_FILE', 'TLS_CLIENT_CA_FILE'];
    expect(namesInValues('config').filter((name) => [...derived, 'CLIENT_CERT_HEADER'].includes(name))).toEqual([]);
  });
});
