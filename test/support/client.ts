import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type Dispatcher, fetch as undiciFetch, type RequestInit as UndiciInit } from 'undici';
import { CLIENT_SECRET } from '../../apps/sandbox/src/settings';
import { pieces } from './pieces';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests read into bodies of many shapes
  readonly body: any;
}

interface Call {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  /** An object is sent as JSON, a string as it is. */
  readonly body?: unknown;
}

export type Api = (path: string, call?: Call) => Promise<Answer>;

/** A request without an answer fails by itself, before its test times out. */
const ANSWERED_WITHIN_MS = 60_000;

/** The service's own time limits, on connections, statements and locks, begin at half a second. */
const BUSY_AFTER_MS = 400;
const BUSY_FOR_MS = 20_000;

/** Calls the service at `url` with a token, and again {@link whileBusy while the machine is busy}. */
export function api(url: string, token?: string): Api {
  const call = apiOnce(url, token);
  return (path, request) => whileBusy(() => call(path, request));
}

/**
 * Asks again after a 503 that took so long that a busy machine may be its cause, and after those that follow, which may come
 * at once. A first one that comes at once has another cause, and is handed on.
 */
export async function whileBusy(ask: () => Promise<Answer>): Promise<Answer> {
  const deadline = performance.now() + BUSY_FOR_MS;
  let isBusy = false;
  for (;;) {
    const start = performance.now();
    const answer = await ask();
    isBusy ||= performance.now() - start > BUSY_AFTER_MS;
    if (answer.status !== 503 || !isBusy || start > deadline) return answer;
    await delay(100);
  }
}

/**
 * The same, but asks once: for tests in which a 503 counts.
 * @param connections dispatcher to send through; by default the one that the process shares
 */
export function apiOnce(url: string, token?: string, connections?: Dispatcher): Api {
  return async (path, { method, headers, body } = {}) => {
    const response = await (connections ? through(connections) : fetch)(url + path, {
      method: method ?? (body === undefined ? 'GET' : 'POST'),
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWERED_WITHIN_MS),
    });
    const text = await response.text();
    const isJson = text !== '' && /json/.test(response.headers.get('content-type') ?? '');
    return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : undefined };
  };
}

/** Node's own `fetch` is of another version of undici, and takes no dispatcher of this one. */
function through(dispatcher: Dispatcher): typeof fetch {
  return ((url: string, init: UndiciInit) => undiciFetch(url, { ...init, dispatcher })) as typeof fetch;
}

/**
 * What a metric of the service stands at, 0 where it has no value.
 * @param name with its labels, as Prometheus writes them
 */
export async function metric(url: string, name: string): Promise<number> {
  const { text } = await api(url)('/metrics');
  const line = text.split('\n').find((entry) => entry.startsWith(`${name} `));
  return Number(line?.split(' ')[1] ?? 0);
}

/** A token of the real identity provider, with all scopes of the client. */
export async function fetchToken(client: string, issuer = pieces().issuer): Promise<string> {
  const response = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${client}:${CLIENT_SECRET}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  });
  return ((await response.json()) as { access_token: string }).access_token;
}

/** Head of a request that creates an order, to be written to a socket. */
export function orderHead(token: string, ...headers: string[]): string {
  const all = ['Host: a', `Authorization: Bearer ${token}`, 'Content-Type: application/json', ...headers];
  return `POST /v1/orders HTTP/1.1\r\n${all.join('\r\n')}\r\n\r\n`;
}

/** The guide's order, with a fresh idempotency key. */
export function anOrder(changes: object = {}) {
  return {
    idempotencyKey: randomUUID(),
    customerId: 'cust_123',
    items: [
      { sku: 'ABC-001', quantity: 2, unitPrice: '49.99' },
      { sku: 'XYZ-777', quantity: 1, unitPrice: '30.01' },
    ],
    totalAmount: { currency: 'USD', value: '129.99' },
    metadata: { sourceSystem: 'order-orchestrator' },
    ...changes,
  };
}

/** @returns the receipt of an order */
export async function placeOrder(orders: Api, order: object = anOrder(), headers?: Record<string, string>) {
  const { status, text, body } = await orders('/v1/orders', { body: order, headers });
  if (status !== 201) throw new Error(`The order was refused with ${status}: ${text}`);
  return body as { orderId: string; links: { self: string } };
}
