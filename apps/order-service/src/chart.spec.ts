import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { VARIABLES } from '@platform/config';

const CHART = path.join(__dirname, '../../../helm/order-service');

interface Schema {
  properties: Record<string, Schema>;
}

const read = (...file: string[]) => readFileSync(path.join(CHART, ...file), 'utf8');
const schema = JSON.parse(read('values.schema.json')) as Schema;

/** The names of the variables that values of the chart may hold. */
function namesInValues(...keys: string[]): string[] {
  const at = keys.reduce<Schema | undefined>((found, key) => found?.properties[key], schema);
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

  it('can set every variable that the service reads in production', () => {
    const known = new Set([...given, ...inTemplates]);
    // Pods listen on all addresses, production refuses the shared secret, and secrets come as variables, not as files.
    const left = VARIABLES.filter(
      (name) => !known.has(name) && !(name.endsWith('_FILE') && known.has(name.slice(0, -5))),
    );
    expect(left).toEqual(['HOST', 'OIDC_SHARED_SECRET', 'OIDC_SHARED_SECRET_FILE']);
  });

  it('refuses to set by hand what follows from other values', () => {
    const derived = ['NODE_ENV', 'ROLES', 'PORT', 'MTLS_MODE', 'TLS_CERT_FILE', 'TLS_KEY_FILE', 'TLS_CLIENT_CA_FILE'];
    expect(namesInValues('config').filter((name) => [...derived, 'CLIENT_CERT_HEADER'].includes(name))).toEqual([]);
  });
});
