import { randomInt, randomUUID } from 'node:crypto';
import { createHistogram } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Client } from 'undici';

const CUSTOMERS = 1_000;
const ANSWER_WITHIN_MS = 30_000;
const PAUSE_AFTER_FAILURE_MS = 100;

export type Operation = 'create' | 'get' | 'list';

/** What to request, how fast and for how long. */
export interface Load {
  readonly url: string;
  readonly token: string;
  /** Percentages of the requests, 100 together. */
  readonly mix: Readonly<Partial<Record<Operation, number>>>;
  /** Each has one request in flight at most. */
  readonly connections: number;
  /** Requests per second of all connections together; without it each sends the next as soon as it has an answer. */
  readonly rate?: number;
  /** Not measured; comes before the time in `until`. */
  readonly warmUpSeconds?: number;
  readonly until: { readonly seconds: number } | { readonly requests: number };
  /** Paths from which `get` and `list` pick at random. */
  readonly paths?: Readonly<Record<'get' | 'list', readonly string[]>>;
}

/** Latencies are in milliseconds, and those of successful requests only. */
export interface Measurement {
  readonly seconds: number;
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
  /** Number of failed requests, by status or, without an answer, by error code. */
  readonly errors: Readonly<Record<string, number>>;
  /** CPU time of the load generator, in percent of one core. */
  readonly generatorCpuPercent: number;
}

interface Progress {
  readonly requests: number;
  /** Since the warm-up; negative while it lasts. */
  readonly seconds: number;
}

type Message = { readonly progress: Progress } | { readonly measurement: Measurement };

/** Runs the load in a thread of its own, so that other work of this process does not count as latency. */
export function runLoad(load: Load, onProgress: (progress: Progress) => void = () => {}): Promise<Measurement> {
  return new Promise((resolve, reject) => {
    const thread = new Worker(__filename, { workerData: load });
    thread.on('message', (message: Message) => {
      if ('progress' in message) onProgress(message.progress);
      else resolve(message.measurement);
    });
    thread.once('error', reject);
  });
}

async function measure(load: Load, onProgress: (progress: Progress) => void): Promise<Measurement> {
  const latencies = createHistogram(); // in microseconds
  const errors: Record<string, number> = {};
  const { until, rate, connections } = load;
  const begin = performance.now();
  const recordFrom = begin + (load.warmUpSeconds ?? 0) * 1_000;
  const end = 'seconds' in until ? recordFrom + until.seconds * 1_000 : Infinity;
  const maxRequests = 'requests' in until ? until.requests : Infinity;
  let cpu = process.threadCpuUsage();
  const warm = setTimeout(() => (cpu = process.threadCpuUsage()), recordFrom - begin);
  const timer = setInterval(() => {
    onProgress({ requests: latencies.count, seconds: (performance.now() - recordFrom) / 1_000 });
  }, 1_000);
  let sent = 0;

  const connect = async (connection: number) => {
    const client = new Client(load.url, { headersTimeout: ANSWER_WITHIN_MS, bodyTimeout: ANSWER_WITHIN_MS });
    const interval = rate === undefined ? 0 : (1_000 * connections) / rate;
    let due = begin + (interval * connection) / connections;
    for (; performance.now() < end && sent < maxRequests; due += interval) {
      sent += 1;
      const wait = due - performance.now();
      if (rate !== undefined && wait > 0) await delay(wait);
      // A request that is late counts from when it was due: otherwise slow answers would hide waiting requests.
      const start = rate === undefined || wait > 0 ? performance.now() : due;
      const failure = await sendRequest(client, load);
      if (start >= recordFrom) {
        if (failure === undefined) latencies.record(Math.max(1, Math.round((performance.now() - start) * 1_000)));
        else errors[failure] = (errors[failure] ?? 0) + 1;
      }
      if (failure !== undefined) await delay(PAUSE_AFTER_FAILURE_MS);
    }
    await client.close();
  };
  await Promise.all(Array.from({ length: connections }, (_, connection) => connect(connection)));

  clearTimeout(warm);
  clearInterval(timer);
  const seconds = (performance.now() - recordFrom) / 1_000;
  const { user, system } = process.threadCpuUsage(cpu);
  const milliseconds = (percentile: number) => latencies.percentile(percentile) / 1_000;
  return {
    seconds,
    requests: latencies.count,
    requestsPerSecond: latencies.count / seconds,
    p50: milliseconds(50),
    p95: milliseconds(95),
    p99: milliseconds(99),
    max: latencies.count === 0 ? 0 : latencies.max / 1_000,
    errors,
    generatorCpuPercent: (user + system) / seconds / 10_000,
  };
}

/** @returns why it failed, if it did */
async function sendRequest(client: Client, load: Load): Promise<string | undefined> {
  const operation = pickOperation(load.mix);
  const authorization = `Bearer ${load.token}`;
  try {
    const { statusCode, body } = await client.request(
      operation === 'create'
        ? {
            method: 'POST',
            path: '/v1/orders',
            headers: { authorization, 'content-type': 'application/json' },
            body: JSON.stringify(anOrder()),
          }
        : {
            method: 'GET',
            path: pick(load.paths?.[operation]),
            headers: { authorization },
          },
    );
    await body.dump({ limit: Infinity });
    return statusCode === (operation === 'create' ? 201 : 200) ? undefined : String(statusCode);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

function pickOperation(mix: Load['mix']): Operation {
  let ticket = Math.random() * 100;
  for (const [operation, percent] of Object.entries(mix)) {
    ticket -= percent;
    if (ticket < 0) return operation as Operation;
  }
  throw new Error('The percentages of a mix must add up to 100');
}

function pick(paths: readonly string[] = []): string {
  return paths[randomInt(paths.length)] ?? '';
}

/** The guide's order. */
function anOrder() {
  return {
    idempotencyKey: randomUUID(),
    customerId: `cust_${randomInt(CUSTOMERS)}`,
    items: [
      { sku: 'ABC-001', quantity: 2, unitPrice: '49.99' },
      { sku: 'XYZ-777', quantity: 1, unitPrice: '30.01' },
    ],
    totalAmount: { currency: 'USD', value: '129.99' },
    metadata: { sourceSystem: 'order-orchestrator' },
  };
}

if (!isMainThread && parentPort) {
  const port = parentPort;
  const send = (message: Message) => port.postMessage(message);
  void measure(workerData as Load, (progress) => send({ progress })).then((measurement) => send({ measurement }));
}
