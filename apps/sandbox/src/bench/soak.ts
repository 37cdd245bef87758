import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from 'pg';
import type { BenchEnvironment } from './environment';
import { type Load, runLoad } from './load';
import { progress, result } from './progress';
import { showErrors } from './report';
import { slope } from './slope';

const RATE = 300;
const CONNECTIONS = 16;
const SAMPLE_EVERY_MS = 5_000;

/** Share of the time that does not count: caches fill, and code is compiled. */
const WARM_UP_SHARE = 0.2;

const MIB = 2 ** 20;

/** How long rows are kept: hours in production, a minute here, so that ten minutes are a long time for a table. */
const KEPT = "interval '1 minute'";

/** The watched values, by their names in the report. */
type Sample = Readonly<Record<string, number>>;

/**
 * Sends requests at a steady rate, and watches what must not grow with time, or only with the number of orders.
 * @returns a report as Markdown
 */
export async function soak(
  environment: BenchEnvironment,
  load: Pick<Load, 'url' | 'token' | 'mix' | 'paths'>,
  minutes: number,
): Promise<string> {
  const samples: Sample[] = [];
  const seconds = minutes * 60;
  let isOver = false;
  const sampling = (async () => {
    while (!isOver) {
      samples.push(await takeSample(environment));
      await deleteOld(environment.database);
      await delay(SAMPLE_EVERY_MS);
    }
  })();
  const warmUpSeconds = seconds * WARM_UP_SHARE;
  const until = { seconds: seconds - warmUpSeconds };
  const measuring = runLoad({ ...load, connections: CONNECTIONS, rate: RATE, warmUpSeconds, until }, (now) => {
    const { 'events that wait': events, 'api: RSS, MiB': rss } = samples.at(-1) ?? {};
    progress(
      `${(warmUpSeconds + now.seconds).toFixed(0)} of ${seconds} s: ${now.requests} requests, ${events} events wait, RSS ${rss} MiB`,
    );
  });
  // The first failure is reported at once. The other is handled too: unhandled, it would end the process, which has
  // others to stop.
  const [measurement] = await Promise.all([measuring.finally(() => (isOver = true)), sampling]);
  const { requests, p50, p99, max, errors } = measurement;
  result(`${minutes} min at ${RATE} requests/s`);
  const watched = samples.slice(Math.floor(samples.length * WARM_UP_SHARE));
  return [
    `${minutes} min of \`mixed\` at ${RATE} requests/s: ${requests} answered, errors: ${showErrors(errors)}; ` +
      `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, max ${max.toFixed(0)} ms.`,
    '',
    '| | first | last | least | most | slope per minute |',
    '| --- | ---: | ---: | ---: | ---: | ---: |',
    ...Object.keys(watched[0] ?? {}).map((name) => {
      const values = watched.map((sample) => sample[name] ?? NaN);
      const perMinute = (slope(values) * 60_000) / SAMPLE_EVERY_MS;
      const cells = [values[0], values.at(-1), Math.min(...values), Math.max(...values)];
      return `| ${name} | ${cells.join(' | ')} | ${perMinute.toFixed(2)} |`;
    }),
  ].join('\n');
}

/** What retention does, sooner. */
async function deleteOld(database: Client): Promise<void> {
  await database.query(`DELETE FROM outbox WHERE published_at < now() - ${KEPT}`);
  await database.query(`DELETE FROM idempotency_keys WHERE created_at < now() - ${KEPT}`);
  await database.query(`DELETE FROM inbox WHERE consumed_at < now() - ${KEPT}`);
}

async function takeSample({ url, workerUrl, database }: BenchEnvironment): Promise<Sample> {
  const [api, worker] = await Promise.all([memoryOf(url), memoryOf(workerUrl)]);
  const { rows } = await database.query<Record<string, string>>(`
    SELECT (SELECT count(*) FROM orders)                                                       AS orders,
           (SELECT count(*) FROM orders WHERE status = 'PENDING')                              AS pending,
           (SELECT count(*) FROM outbox WHERE published_at IS NULL)                            AS events,
           (SELECT sum(n_dead_tup) FROM pg_stat_user_tables)                                   AS dead,
           pg_total_relation_size('outbox')                                                    AS outbox,
           pg_total_relation_size('idempotency_keys')                                          AS keys,
           pg_total_relation_size('inbox')                                                     AS inbox`);
  const counted = (name: string) => Number(rows[0]?.[name]);
  return {
    'api: RSS, MiB': mebibytes(api.rss),
    'api: heap in use, MiB': mebibytes(api.heap),
    'worker: RSS, MiB': mebibytes(worker.rss),
    'worker: heap in use, MiB': mebibytes(worker.heap),
    'events that wait': counted('events'),
    'orders that wait for payment': counted('pending'),
    orders: counted('orders'),
    '`outbox`, MiB': mebibytes(counted('outbox')),
    '`idempotency_keys`, MiB': mebibytes(counted('keys')),
    '`inbox`, MiB': mebibytes(counted('inbox')),
    'dead rows of all tables': counted('dead'),
  };
}

const mebibytes = (bytes: number) => Math.round((bytes / MIB) * 10) / 10;

async function memoryOf(url: string): Promise<{ rss: number; heap: number }> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const read = (name: string) => Number(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)`, 'm').exec(metrics)?.[1]);
  return { rss: read('process_resident_memory_bytes'), heap: read('nodejs_heap_size_used_bytes') };
}
