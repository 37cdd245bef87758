import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { type Answer, anOrder, type Api, api, fetchToken, placeOrder } from '../support/client';
import { startService, type TestService } from '../support/service';

/** Where an order is changed: its fields, others beside them, and names that objects have by themselves. */
const PLACES = [
  'idempotencyKey',
  'customerId',
  'items',
  'items.0',
  'items.1',
  'items.0.sku',
  'items.0.quantity',
  'items.0.unitPrice',
  'items.0.other',
  'items.0.__proto__',
  'totalAmount',
  'totalAmount.currency',
  'totalAmount.value',
  'totalAmount.constructor',
  'metadata',
  'metadata.other',
  'metadata.__proto__',
  'metadata.toJSON',
  'other',
  '__proto__',
  'constructor',
  'toString',
];

/** Where any text may be. */
const TEXTS = ['idempotencyKey', 'customerId', 'items.1.sku', 'metadata.other'];

/** With characters in it that mean something to JSON, PostgreSQL, HTTP or a log more often than by chance. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 200 }),
  fc.string({
    unit: fc.constantFrom('a', 'é', '👍', '\0', '\ud800', '\n', '"', "'", '\\', '\u2028', '$1', ' '),
    maxLength: 9,
  }),
);
const nearlyValid = fc.oneof(
  fc.stringMatching(/^-?\d{0,30}(\.\d{0,6})?$/),
  fc.constantFrom('USD', 'JPY', 'KWD', 'XXX', 'usd', '129.990', '0', '-1', '1e3', '', ' ', '\0', '\ud800', 'NaN', '👍'),
  fc.constantFrom(0, -0, 1, 0.5, 1e6, 1e21, 2 ** 53, 5e-324, true, false, null, {}, [], [[]], [null], { $ne: 1 }),
);
/** undefined stands for a field that is left out. */
const anyValue = fc.oneof(
  fc.constant(undefined),
  nearlyValid,
  anyText,
  fc.jsonValue({ maxDepth: 7, stringUnit: 'binary' }),
);

const anyChange = fc.oneof(
  fc.tuple(fc.constantFrom(...TEXTS), anyText),
  fc.tuple(fc.constantFrom(...PLACES), anyValue),
);

/** Own properties of every name, `__proto__` too, as a parsed JSON text has them. */
function change(order: object, place: string, value: unknown): void {
  const path = place.split('.');
  const last = path.pop() as string;
  const owner = path.reduce<unknown>(
    (object, name) => (Object.hasOwn(Object(object), name) ? (object as Record<string, unknown>)[name] : undefined),
    order,
  );
  if (typeof owner !== 'object' || owner === null) return;
  if (value === undefined) delete (owner as Record<string, unknown>)[last];
  else Object.defineProperty(owner, last, { value, enumerable: true, configurable: true, writable: true });
}

/** Characters that a header may have. */
const headerText = fc.string({
  unit: fc.integer({ min: 0x20, max: 0xff }).map((code) => String.fromCharCode(code === 0x7f ? 0x20 : code)),
  maxLength: 300,
});

/** How many cases each test makes up. */
const RUNS = 100;

describe('Whatever a client sends', () => {
  let service: TestService;
  let orders: Api;
  let orderId: string;

  beforeAll(async () => {
    service = await startService({ RATE_LIMIT_PER_MINUTE: '0' });
    orders = api(service.url, await fetchToken('order-orchestrator'));
    ({ orderId } = await placeOrder(orders));
  });
  afterAll(() => service.stop());

  /** A refusal has its shape, and there is no other answer than a success or a refusal of these kinds. */
  function judge({ status, body, text, headers }: Answer, ...expected: number[]): void {
    expect(expected).toContain(status);
    if (status < 400) return;
    expect(body).toEqual({
      error: {
        code: expect.stringMatching(/^[A-Z_]+$/),
        message: expect.any(String),
        correlationId: headers.get('x-request-id'),
        ...(body.error.details && { details: expect.any(Array) }),
      },
    });
    expect(text).not.toMatch(/\bat \/|node_modules|QueryFailed|violates/);
  }

  const check = <T>(sent: fc.Arbitrary<T>, property: (sent: T) => Promise<void>) =>
    fc.assert(fc.asyncProperty(sent, property), { numRuns: RUNS });

  it('an order is kept as it was sent, or refused as invalid', () =>
    check(fc.array(anyChange, { minLength: 1, maxLength: 2 }), async (changes) => {
      const order = anOrder({ customerId: `fuzz_${randomUUID()}` });
      for (const [place, value] of changes) change(order, place, value);
      const sent = JSON.stringify(order);
      const answer = await orders('/v1/orders', { body: sent });
      judge(answer, 201, 400, 409);
      if (answer.status !== 201 || answer.headers.has('idempotent-replayed')) return;
      const { body: kept } = await orders(answer.body.links.self);
      const { customerId, items, totalAmount, metadata } = JSON.parse(sent);
      expect({ customerId: kept.customerId, items: kept.items, metadata: kept.metadata }).toEqual({
        customerId,
        items,
        metadata,
      });
      expect(Number(kept.totalAmount.value)).toBe(Number(totalAmount.value));
    }));

  it('a body that is damaged on its way is refused, or is another order', () =>
    check(fc.tuple(fc.nat({ max: 320 }), fc.nat({ max: 20 }), anyText), async ([at, length, text]) => {
      const order = JSON.stringify(anOrder());
      const body = order.slice(0, at) + text + order.slice(at + length);
      judge(await orders('/v1/orders', { body }), 201, 400, 409);
    }));

  it('a list is a page, or refused as invalid', () => {
    const name = (...names: string[]) => fc.constantFrom(...names);
    const times = fc.date({ noInvalidDate: true }).map((date) => date.toISOString());
    const days = fc.constantFrom('2026-01-01', '2026-02-30T00:00:00Z', '9999-12-31T24:00:00Z');
    const parameter = fc.oneof(
      fc.tuple(name('limit'), fc.oneof(fc.integer({ min: -1, max: 250 }).map(String), nearlyValid.map(String))),
      fc.tuple(name('createdAfter', 'createdBefore'), fc.oneof(times, days)),
      fc.tuple(name('customerId'), anyText),
      fc.tuple(name('status'), fc.constantFrom('PENDING', 'pending', 'REJECTED')),
      fc.tuple(
        name('cursor', 'status', 'limit', 'createdAfter', 'other', '__proto__', 'limit[]', 'status[a]'),
        anyText,
      ),
    );
    const ends = fc.oneof({ weight: 9, arbitrary: fc.constant('') }, fc.constantFrom('%', '%ff', '&&', '&limit'));
    return check(fc.tuple(fc.array(parameter, { maxLength: 3 }), ends), async ([query, end]) => {
      judge(await orders(`/v1/orders?${String(new URLSearchParams(query))}${end}`), 200, 400);
    });
  });

  it('an order is found by its id alone', () =>
    check(fc.oneof(anyText, fc.base64String({ maxLength: 40 })), async (id) => {
      const path = encodeURIComponent(Buffer.from(id).toString());
      if (['', '.', '..'].includes(path)) return; // other paths
      judge(await orders(`/v1/orders/${path}`), 404);
      judge(await orders(`/v1/orders/ord_${path}/cancel`, { method: 'POST' }), 404);
    }));

  it('a header has its meaning, or none', () => {
    const names = [
      ...['idempotency-key', 'if-match', 'if-none-match', 'accept', 'accept-encoding', 'accept-language', 'range'],
      ...['x-request-id', 'traceparent', 'tracestate', 'x-forwarded-for', 'x-forwarded-proto', 'forwarded'],
      ...['authorization', 'content-type'],
    ];
    const headers = fc.dictionary(fc.constantFrom(...names), headerText);
    return check(headers, async (sent) => {
      judge(await orders('/v1/orders', { body: anOrder(), headers: sent }), 201, 400, 401, 409, 415);
      judge(await orders(`/v1/orders/${orderId}`, { headers: sent }), 200, 304, 400, 401);
      judge(await orders(`/v1/orders/${orderId}/cancel`, { body: {}, headers: sent }), 200, 400, 401, 412, 415);
    });
  });
});
