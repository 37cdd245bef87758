import { readFileSync } from 'node:fs';
import { register } from 'prom-client';
import { TestCertificates } from '../support/certificates';
import { startService, type TestService } from '../support/service';

const DASHBOARD = 'helm/order-service/dashboards/order-service.json';
const RULES = 'helm/order-service/rules/order-service.yaml';

let certificates: TestCertificates;
let service: TestService;
let metrics: string[];

beforeAll(async () => {
  certificates = await TestCertificates.create();
  // Everything that has metrics of its own. Nobody is at the addresses.
  service = await startService({
    ROLES: 'api,worker',
    KAFKA_BROKERS: '127.0.0.1:1',
    REDIS_URL: 'redis://127.0.0.1:1',
    ...certificates.ownTls,
  });
  metrics = register.getMetricsAsArray().map(({ name }) => name);
});
afterAll(async () => {
  await service?.stop();
  certificates?.remove();
});

/** The names in `queries` of metrics of the service, as opposed to what Prometheus records. */
function metricsOf(queries: string): string[] {
  const selected = Array.from(queries.matchAll(/([\w:]+)\{[^}]*job="order-service"/g), ([, name]) => name!);
  return [...new Set(selected)]
    .filter((name) => name !== 'up' && !name.includes(':'))
    .map((name) => name.replace(/_(bucket|count|sum)$/, ''));
}

describe('/metrics', () => {
  it('has each metric that the rules ask for', () => {
    const asked = metricsOf(readFileSync(RULES, 'utf8'));
    expect(asked.length).toBeGreaterThan(20);
    expect(metrics).toEqual(expect.arrayContaining(asked));
  });

  it('has each metric that the dashboard shows', () => {
    const { panels } = JSON.parse(readFileSync(DASHBOARD, 'utf8')) as { panels: { targets?: { expr: string }[] }[] };
    const asked = panels.flatMap(({ targets = [] }) => targets.flatMap(({ expr }) => metricsOf(expr)));
    expect(asked.length).toBeGreaterThan(20);
    expect(metrics).toEqual(expect.arrayContaining(asked));
  });

  it('describes its metrics to operators, all of them', () => {
    const [, chapter] = readFileSync('docs/operations.md', 'utf8').split('\n### Metrics\n');
    const firstCells = Array.from(chapter!.matchAll(/^\| ([^|]*`[^|]*) \|/gm), ([, cell]) => cell!);
    const described = firstCells.flatMap((cell) => Array.from(cell.matchAll(/`(\w+)`/g), ([, name]) => name!));
    const own = metrics.filter((name) => !/^(process|nodejs)_/.test(name));
    expect(described.toSorted()).toEqual(own.toSorted());
  });
});
