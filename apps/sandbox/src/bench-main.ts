import { rmSync } from 'node:fs';
import path from 'node:path';
import { readArguments } from '@platform/arguments';
import { type BenchEnvironment, startEnvironment } from './bench/environment';
import { type Load, runLoad } from './bench/load';
import { progress, result } from './bench/progress';
import { machine, type Scenario, table, writeBench, writeSoak } from './bench/report';
import { soak } from './bench/soak';
import { Pieces } from './pieces';
import { stopOnSignal } from './signals';

const USAGE = `usage: npm run bench [-- --soak MINUTES]

  --soak   sends a steady rate for 1 to 50 minutes, and reports how memory and tables grow instead of the speed`;

const DIRECTORY = path.resolve('.sandbox/bench');

const ORDERS = 10_000;
const PAGE_SIZE = 50;
const WARM_UP_SECONDS = 3;
const SECONDS = 10;

const MIXES = {
  create: { create: 100 },
  get: { get: 100 },
  list: { list: 100 },
  mixed: { get: 70, create: 20, list: 10 },
} satisfies Record<string, Load['mix']>;

/** Those that create orders come last, because the worker is busy with these orders after the scenario has ended. */
const SCENARIOS: readonly (readonly [keyof typeof MIXES, number])[] = [
  ['get', 64],
  ['list', 64],
  ['mixed', 64],
  ['create', 8],
  ['create', 64],
  ['create', 256],
];

const pieces = new Pieces();

async function main(): Promise<void> {
  const minutes = readMinutes();
  progress('Starting PostgreSQL, an identity provider, a payment API and the service');
  const environment = await startEnvironment(pieces, DIRECTORY, fail);
  const target = { url: environment.url, token: await environment.fetchToken() };
  await fill(environment, target);
  const paths = await findPaths(target);
  const about = await machine(environment.database);
  if (minutes === undefined) {
    const scenarios: Scenario[] = [];
    for (const [name, connections] of SCENARIOS) {
      const label = `${name}, ${connections} connections`;
      const load = { ...target, paths, mix: MIXES[name], connections, warmUpSeconds: WARM_UP_SECONDS };
      const measurement = await runLoad({ ...load, until: { seconds: SECONDS } }, ({ requests, seconds }) =>
        progress(`${label}: ${seconds < 0 ? 'warming up' : `${requests} requests in ${seconds.toFixed(0)} s`}`),
      );
      scenarios.push({ name, connections, ...measurement });
      result(`${label}: ${measurement.requestsPerSecond.toFixed(0)} requests/s`);
    }
    console.log(`\n${await table(scenarios)}`);
    await writeBench(about, { warmUpSeconds: WARM_UP_SECONDS, seconds: SECONDS, orders: ORDERS }, scenarios);
  } else {
    const report = await soak(environment, { ...target, paths, mix: MIXES.mixed }, minutes);
    console.log(`\n${report}`);
    await writeSoak(about, report);
  }
  await pieces.stop();
  rmSync(DIRECTORY, { recursive: true });
}

type Target = Pick<Load, 'url' | 'token'>;

/**
 * Creates one order, waits until it is paid, and copies it with SQL, one second apart. Through the API it would take
 * minutes until all orders are paid.
 */
async function fill(environment: BenchEnvironment, target: Target): Promise<void> {
  const { errors } = await runLoad({ ...target, mix: MIXES.create, connections: 1, until: { requests: 1 } });
  if (Object.keys(errors).length > 0) throw new Error(`An order cannot be created: ${JSON.stringify(errors)}`);
  await environment.untilSettled();
  await environment.database.query(
    `INSERT INTO orders (id, customer_id, tenant_id, client_id, status, currency, total_value, items, metadata, version,
                         event_sequence, created_at, updated_at, payment_id, payment_status)
     SELECT ('0' || to_hex((extract(epoch FROM now()) * 1000)::bigint - n * 1000) || '7' ||
             substr(gen_random_uuid()::text, 16))::uuid, -- a UUIDv7
            'cust_' || n % 1000, tenant_id, client_id, status, currency, total_value, items, metadata, version,
            event_sequence, created_at, updated_at, payment_id, payment_status
     FROM orders, generate_series(1, $1) AS n`,
    [ORDERS - 1],
  );
  await environment.database.query('VACUUM ANALYZE'); // as autovacuum would have done before long
  result(`${ORDERS} orders are there`);
}

/** Reads the list page by page as a client would. @returns the paths of all orders and of all pages */
async function findPaths({ url, token }: Target): Promise<NonNullable<Load['paths']>> {
  const pages: string[] = [];
  const orders: string[] = [];
  let next: string | undefined = `/v1/orders?limit=${PAGE_SIZE}`;
  while (next !== undefined) {
    pages.push(next);
    const response = await fetch(new URL(next, url), { headers: { authorization: `Bearer ${token}` } });
    const { data, links } = (await response.json()) as { data: { orderId: string }[]; links: { next?: string } };
    orders.push(...data.map(({ orderId }) => `/v1/orders/${orderId}`));
    next = links.next;
  }
  return { get: orders, list: pages };
}

function readMinutes(): number | undefined {
  const { values } = readArguments(USAGE, { options: { soak: { type: 'string' } } });
  if (values.soak === undefined) return undefined;
  const minutes = Number(values.soak);
  if (!Number.isInteger(minutes) || minutes < 1 || minutes > 50) throw new Error(USAGE);
  return minutes;
}

function fail(error: unknown): void {
  if (pieces.areStopping) return;
  console.error(error instanceof Error ? error.message : error);
  void pieces.stop().finally(() => process.exit(1));
}

stopOnSignal(() => pieces.stop());

main().catch(fail);
