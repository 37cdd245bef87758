import { sleep } from 'k6';
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import http from 'k6/http';
import { Rate } from 'k6/metrics';

const BASE_URL = __ENV.BASE_URL || 'http://127.0.0.1:3000';
const TOKEN_URL = __ENV.TOKEN_URL || 'http://127.0.0.1:4000/token';
const CLIENT_ID = __ENV.CLIENT_ID || 'order-orchestrator';
const CLIENT_SECRET = __ENV.CLIENT_SECRET || 'sandbox-secret-not-for-production';

export const RATE = Number(__ENV.RATE || 20);

const ATTEMPTS = 4;
const RENEW_BEFORE_MS = 60_000;
const LIST_SHARE = 0.1;

/** Of what clients wanted, the share that they did not get in any of their attempts. */
const failures = new Rate('failures');

/** The service level objectives; and that the load was what it says, without which they say nothing. */
export const thresholds = {
  failures: ['rate<0.001'],
  'http_req_duration{name:create}': ['p(95)<500'],
  'http_req_duration{name:get}': ['p(95)<500'],
  dropped_iterations: ['count==0'],
};

/** `RATE` orders a second, however long the answers take. */
export const steadily = (duration) => ({
  executor: 'constant-arrival-rate',
  rate: RATE,
  duration: __ENV.DURATION || duration,
  preAllocatedVUs: 50,
  maxVUs: 500,
});

/** Creates an order and reads it; now and then somebody looks at the first page of the list. */
export function placeOrder(customerId = `cust_${Math.floor(Math.random() * 1_000)}`) {
  const order = {
    idempotencyKey: crypto.randomUUID(),
    customerId,
    items: [
      { sku: 'ABC-001', quantity: 2, unitPrice: '49.99' },
      { sku: 'XYZ-777', quantity: 1, unitPrice: '30.01' },
    ],
    totalAmount: { currency: 'USD', value: '129.99' },
    metadata: { sourceSystem: 'order-orchestrator' },
  };
  const created = ask('create', 201, 'POST', '/v1/orders', JSON.stringify(order));
  if (created.status === 201) ask('get', 200, 'GET', created.json('links.self'));
  if (Math.random() < LIST_SHARE) ask('list', 200, 'GET', '/v1/orders?limit=50');
}

/** Asks again as docs/clients.md says: after no answer, 408, 429 and 5xx, with the same key. */
function ask(name, expected, method, path, body = null) {
  for (let attempt = 1; ; attempt += 1) {
    const headers = { authorization: `Bearer ${takeToken()}`, 'content-type': 'application/json' };
    const response = http.request(method, BASE_URL + path, body, { headers, tags: { name } });
    const isWorthwhile = [0, 408, 429].includes(response.status) || response.status >= 500;
    if (!isWorthwhile || attempt === ATTEMPTS) {
      failures.add(response.status !== expected);
      return response;
    }
    const pause = 0.1 * 2 ** attempt * Math.random();
    sleep(Number(response.headers['Retry-After'] || 0) + pause);
  }
}

// Of the virtual user: each has variables of its own.
let token;
let renewAt = 0;

function takeToken() {
  if (Date.now() > renewAt) {
    const credentials = encoding.b64encode(`${CLIENT_ID}:${CLIENT_SECRET}`);
    const params = { headers: { authorization: `Basic ${credentials}` }, tags: { name: 'token' } };
    const response = http.post(TOKEN_URL, { grant_type: 'client_credentials' }, params);
    if (response.status !== 200) exec.test.abort(`no token from ${TOKEN_URL}: ${response.status} ${response.body}`);
    token = response.json('access_token');
    renewAt = Date.now() + response.json('expires_in') * 1_000 - RENEW_BEFORE_MS;
  }
  return token;
}
