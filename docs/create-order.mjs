// Places an order exactly once, however many answers are lost. Needs Node.js 20 or newer, and no packages.
// Without environment variables it speaks to the sandbox of `npm start`.
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';

const {
  ORDERS_URL = 'http://127.0.0.1:3000',
  TOKEN_URL = 'http://127.0.0.1:4000/token',
  CLIENT_ID = 'order-orchestrator',
  CLIENT_SECRET = 'sandbox-secret-not-for-production',
} = process.env;

const ANSWER_WITHIN_MS = 3_000;
const GIVE_UP_AFTER_MS = 120_000; // longer than any Retry-After: a window of limits is a minute
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

/** The same would be refused again. */
class Refused extends Error {}

let token;

async function fetchToken() {
  const response = await fetch(TOKEN_URL, {
    method: 'POST',
    headers: {
      authorization: `Basic ${Buffer.from([CLIENT_ID, CLIENT_SECRET].map(encodeURIComponent).join(':')).toString('base64')}`,
    },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  });
  if (isNotNow(response.status)) throw new Error(`The identity provider answered ${response.status}`);
  if (!response.ok) throw new Refused(`The identity provider refuses the client: ${await response.text()}`);
  return (await response.json()).access_token;
}

/** No answer, or "not now": the same request can be sent again. */
function isNotNow(status) {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}

/** `Retry-After` is a number of seconds or a date. */
function retryAfterMs(header) {
  if (!header) return 0;
  const ms = /^\d+$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - Date.now();
  return ms > 0 ? ms : 0;
}

async function send(order) {
  token ??= await fetchToken();
  const response = await fetch(`${ORDERS_URL}/v1/orders`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(order),
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  });
  // What refuses may be something on the way, and no JSON.
  const body = response.ok ? await response.json() : await response.text();
  return { status: response.status, headers: response.headers, body };
}

/** @param order with its `idempotencyKey`: keep both where they outlive this process, and give both again after a crash */
async function createOrder(order) {
  const giveUpAt = Date.now() + GIVE_UP_AFTER_MS;
  let tokenIsNew = false;
  let mayStand = false; // an attempt was not answered, or failed on the way: there may be an order
  for (let attempt = 0; ; attempt += 1) {
    const answer = await send(order).catch((error) => {
      if (error instanceof Refused) throw error;
      return { status: 0, error };
    });
    const { status, headers, body } = answer;
    if (status === 201) return body;
    if (status === 401 && !tokenIsNew) {
      token = undefined; // it has ended, or its key was withdrawn
      tokenIsNew = true;
      continue;
    }
    if (!isNotNow(status) && !mayStand) throw new Refused(`The order was refused: ${body}`);
    mayStand ||= token !== undefined && status !== 429; // without a token nothing was sent
    const askedMs = retryAfterMs(headers?.get('retry-after'));
    const pauseMs = askedMs + Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
    if (!isNotNow(status) || Date.now() + pauseMs > giveUpAt) {
      const state = mayStand ? 'It is not known whether there is an order' : 'There is no order yet';
      throw new Error(`${state}: ask again later, with the key ${order.idempotencyKey}`, {
        cause: answer.error ?? body,
      });
    }
    console.error(`${answer.error?.cause ?? answer.error ?? status}: asking again in ${Math.ceil(pauseMs)} ms`);
    await pause(pauseMs);
  }
}

const order = {
  idempotencyKey: process.argv[2] ?? randomUUID(),
  customerId: 'cust_123',
  items: [{ sku: 'ABC-001', quantity: 2, unitPrice: '49.99' }],
  totalAmount: { currency: 'USD', value: '99.98' },
};
try {
  console.log(await createOrder(order));
} catch (error) {
  console.error(error.message, ...(error.cause === undefined ? [] : [error.cause]));
  process.exitCode = 1;
}
