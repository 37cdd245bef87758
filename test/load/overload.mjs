// Finds how many orders a second the service takes, then offers it three times as many, and tells what it makes of them.
// Orders arrive when they are due, whether or not earlier ones were answered (an open loop), as those of many clients do;
// with 2,000 unanswered, what is due is dropped and counted (`unsent`).
// It ends by itself, after about 30 s.
//
//   RATE_LIMIT_PER_MINUTE=0 npm start          # in another terminal
//   node test/load/overload.mjs
//
// Prints a table, or with --json one line of JSON: a list of rounds. Rates are per second, times in ms.
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Pool, request } from 'undici';

const { values: args } = parseArgs({
  options: {
    target: { type: 'string', default: 'http://127.0.0.1:3000' },
    'token-url': { type: 'string', default: 'http://127.0.0.1:4000/token' },
    client: { type: 'string', default: 'order-orchestrator:sandbox-secret-not-for-production' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
  },
});

const TIMES_CAPACITY = 3;
const PEAK_CONNECTIONS = 64;
const MAX_CONNECTIONS = 2_000;
const WARM_UP_MS = 3_000;
const PEAK_MS = 3_000;
const STORM_MS = 4_000;
const TICK_MS = 5;
/** What a lone order may take for the service to have recovered. */
const QUICK_MS = 100;
const RECOVERY_ENDS_MS = 10_000;

const ORDER = JSON.stringify({
  customerId: 'cust_123',
  items: [
    { sku: 'ABC-001', quantity: 2, unitPrice: '49.99' },
    { sku: 'XYZ-777', quantity: 1, unitPrice: '30.01' },
  ],
  totalAmount: { currency: 'USD', value: '129.99' },
  metadata: { sourceSystem: 'order-orchestrator' },
});

const authorization = `Bearer ${await fetchToken()}`;
const pool = new Pool(args.target, {
  connections: MAX_CONNECTIONS,
  headersTimeout: 15_000,
  bodyTimeout: 15_000,
});

const rounds = [];
await closedLoop(WARM_UP_MS);
for (let round = 1; round <= Number(args.rounds); round += 1) rounds.push(await runRound());
await pool.destroy();
print();

async function runRound() {
  const calm = await closedLoop(PEAK_MS);
  const peak = rateOf(calm, PEAK_MS);
  const cpuBefore = process.cpuUsage();
  const storm = await openLoop(TIMES_CAPACITY * peak, STORM_MS);
  const cpu = process.cpuUsage(cpuBefore);
  const recoveryMs = await recovery(storm.endedAt);
  const answers = await storm.answers;
  const inTime = answers.filter(({ at }) => at <= storm.endedAt);
  const accepted = answers.filter(({ kind }) => kind === 'accepted');
  const refused = answers.filter(({ kind }) => kind === 'refused');
  const acceptedRate = rateOf(inTime, STORM_MS);
  const others = answers.filter(({ kind }) => kind !== 'accepted' && kind !== 'refused').map(({ kind }) => kind);
  return {
    peak,
    peakP50: quantile(calm, 0.5),
    peakP99: quantile(calm, 0.99),
    offered: Math.round((answers.length * 1_000) / STORM_MS),
    unsent: storm.unsent,
    accepted: acceptedRate,
    kept: Number((acceptedRate / peak).toFixed(3)),
    acceptedP50: quantile(accepted, 0.5),
    acceptedP99: quantile(accepted, 0.99),
    refused: refused.length,
    refusedP50: quantile(refused, 0.5),
    refusedP99: quantile(refused, 0.99),
    /** What was neither accepted nor refused as the contract says, by how often. */
    others: Object.fromEntries(new Set(others).values().map((kind) => [kind, others.filter((k) => k === kind).length])),
    recoveryMs,
    /** What the storm itself took, in cores: the service has to do without it where both share a machine. */
    loadCores: Number(((cpu.user + cpu.system) / 1_000 / STORM_MS).toFixed(2)),
  };
}

/** Each connection sends its next order when the one before was answered. */
async function closedLoop(ms) {
  const end = performance.now() + ms;
  const answers = [];
  const connections = Array.from({ length: PEAK_CONNECTIONS }, async () => {
    while (performance.now() < end) answers.push(await sendOrder(performance.now()));
  });
  await Promise.all(connections);
  return answers.filter(({ at }) => at <= end);
}

/**
 * What is due while all connections are busy is dropped, not kept: sent later, it would be a storm after the storm.
 * @returns when the last order was sent, all answers, some of which come later, and how many were due but not sent
 */
async function openLoop(rate, ms) {
  const start = performance.now();
  const sent = [];
  let [unsent, onTheirWay] = [0, 0];
  for (let now = start; now < start + ms; now = performance.now()) {
    const due = Math.floor(((now - start) * rate) / 1_000);
    while (sent.length + unsent < due && onTheirWay < MAX_CONNECTIONS) {
      onTheirWay += 1;
      // Counted from when it was due, so a late tick counts; what was never sent is in no time.
      const answer = sendOrder(start + ((sent.length + unsent) * 1_000) / rate);
      sent.push(answer.finally(() => (onTheirWay -= 1)));
    }
    unsent = due - sent.length;
    await delay(TICK_MS);
  }
  return { endedAt: performance.now(), answers: Promise.all(sent), unsent };
}

/** @returns how long after the end of the storm a lone order was quick again; null when it never was */
async function recovery(since) {
  while (performance.now() < since + RECOVERY_ENDS_MS) {
    const { kind, ms, at } = await sendOrder(performance.now());
    if (kind === 'accepted' && ms < QUICK_MS) return Math.round(at - since);
    await delay(10);
  }
  return null;
}

/** @returns what became of it, how long that took from `due`, and when it was known */
function sendOrder(due) {
  return new Promise((resolve) => {
    const settle = (kind) => {
      const at = performance.now();
      resolve({ kind, ms: at - due, at });
    };
    let [statusCode, retryAfter, text] = [0, '', ''];
    // Half the processor time of `request`: the storm is to leave the machine to the service.
    pool.dispatch(
      {
        method: 'POST',
        path: '/v1/orders',
        headers: { authorization, 'content-type': 'application/json', 'idempotency-key': randomUUID() },
        body: ORDER,
      },
      {
        onRequestStart: () => undefined,
        onResponseStart(_controller, status, headers) {
          [statusCode, retryAfter] = [status, headers['retry-after']];
        },
        onResponseData: (_controller, chunk) => (text += chunk),
        onResponseEnd: () => settle(kindOf(statusCode, retryAfter, text)),
        onResponseError: (_controller, error) => settle(error.code ?? error.name),
      },
    );
  });
}

function kindOf(statusCode, retryAfter, text) {
  if (statusCode === 201) return 'accepted';
  const isRefusal = statusCode === 503 && /^\d+$/.test(retryAfter ?? '') && isUnavailable(text);
  return isRefusal ? 'refused' : `${statusCode} ${text.slice(0, 80)}`;
}

function isUnavailable(text) {
  const { error } = JSON.parse(text);
  return error.code === 'SERVICE_UNAVAILABLE' && error.message !== '' && error.correlationId !== '';
}

async function fetchToken() {
  const { body } = await request(args['token-url'], {
    method: 'POST',
    headers: {
      authorization: `Basic ${Buffer.from(args.client).toString('base64')}`,
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: 'grant_type=client_credentials',
  });
  const { access_token: token } = await body.json();
  if (!token) throw new Error(`No token from ${args['token-url']}`);
  return token;
}

function rateOf(answers, ms) {
  return Math.round((answers.filter(({ kind }) => kind === 'accepted').length * 1_000) / ms);
}

function quantile(answers, q) {
  const sorted = answers.map(({ ms }) => ms).sort((a, b) => a - b);
  return sorted.length === 0 ? null : Number(sorted[Math.floor(q * (sorted.length - 1))].toFixed(1));
}

function print() {
  if (args.json) console.log(JSON.stringify(rounds));
  else console.table(rounds.map((round) => ({ ...round, others: JSON.stringify(round.others) })));
}
