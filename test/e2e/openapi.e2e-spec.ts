import Ajv2020 from 'ajv/dist/2020';
import addFormats from 'ajv-formats';
import { type Answer, type Api, anOrder, api, fetchToken } from '../support/client';
import { startService, type TestService } from '../support/service';

describe('The API description', () => {
  let service: TestService;

  beforeAll(async () => {
    service = await startService();
  });
  afterAll(() => service.stop());

  it('is OpenAPI 3.1 and names each route with its scopes and answers', async () => {
    const { status, body } = await api(service.url)('/openapi.json');
    expect(status).toBe(200);
    expect(body.openapi).toBe('3.1.0');
    expect(Object.keys(body.paths).sort()).toEqual([
      '/v1/audit-events',
      '/v1/customers/{customerId}/erasure',
      '/v1/orders',
      '/v1/orders/{orderId}',
      '/v1/orders/{orderId}/cancel',
    ]);
    expect(body.paths['/v1/orders/{orderId}/cancel'].post.security).toEqual([{ accessToken: ['orders:write'] }]);
    expect(body.paths['/v1/orders/{orderId}/cancel'].post.requestBody.required).toBe(false);
    expect(body.paths['/v1/orders'].post.security).toEqual([{ accessToken: ['orders:write'] }]);
    const answers = (route: string, method: string) => Object.keys(body.paths[route][method].responses).join(' ');
    expect(answers('/v1/orders', 'post')).toBe('201 400 401 403 409 413 415 429 503 4XX 5XX');
    expect(answers('/v1/orders', 'get')).toBe('200 400 401 403 429 503 4XX 5XX');
    expect(answers('/v1/orders/{orderId}', 'get')).toBe('200 304 400 401 403 404 429 503 4XX 5XX');
    expect(answers('/v1/orders/{orderId}/cancel', 'post')).toBe('200 400 401 403 404 409 412 413 415 429 503 4XX 5XX');
    expect(answers('/v1/customers/{customerId}/erasure', 'post')).toBe('200 400 401 403 409 429 503 4XX 5XX');
    expect(body.paths['/v1/customers/{customerId}/erasure'].post).not.toHaveProperty('requestBody');
    expect(body.paths['/v1/orders/{orderId}'].get.security).toEqual([{ accessToken: ['orders:read'] }]);
    expect(body.components.schemas.CreateOrderDto.required).toEqual(['customerId', 'items', 'totalAmount']);
    const { code } = body.components.schemas.ErrorFacts.properties;
    expect(code).toMatchObject({
      type: 'string',
      'x-extensible-enum': expect.arrayContaining(['IDEMPOTENCY_KEY_REUSED']),
    });
    expect(code).not.toHaveProperty('enum');
    const { OrderReceipt, OrderView } = body.components.schemas;
    for (const { properties } of [OrderReceipt, OrderView])
      expect(properties.status).toEqual({ allOf: [{ $ref: '#/components/schemas/OrderStatus' }] });
  });

  it('closes what is asked for, and says of what is answered that it may grow', async () => {
    const { schemas } = (await api(service.url)('/openapi.json')).body.components;
    const closed = Object.keys(schemas).filter((name) => schemas[name].additionalProperties === false);
    const open = Object.keys(schemas).filter((name) => schemas[name].additionalProperties === true);
    expect(closed.sort()).toEqual(['CancelOrderDto', 'CreateOrderDto', 'MoneyDto', 'OrderItemDto']);
    expect([...closed, ...open, 'OrderStatus'].sort()).toEqual(Object.keys(schemas).sort());
  });

  describe('is true:', () => {
    const ajv = addFormats(new Ajv2020({ strict: false, allErrors: true }));
    let orders: Api;
    let compliance: Api;
    let orderId: string;

    beforeAll(async () => {
      ajv.addSchema((await api(service.url)('/openapi.json')).body, 'description');
      orders = api(service.url, await fetchToken('order-orchestrator'));
      compliance = api(service.url, await fetchToken('compliance'));
      orderId = (await orders('/v1/orders', { body: anOrder({ metadata: { a: [1] } }) })).body.orderId;
      await orders('/v1/orders', { body: anOrder() });
    });

    /** What the description says at this place; undefined where it says nothing. */
    const described = (...path: string[]) => {
      const pointer = path.map((name) => encodeURIComponent(name.replaceAll('~', '~0').replaceAll('/', '~1')));
      return ajv.getSchema(`description#/${pointer.join('/')}`);
    };
    const faultsOf = (route: string, method: string, { status, headers, body }: Answer): unknown => {
      const type = (headers.get('content-type') ?? '').replace(/;.*/, '');
      const responses = ['paths', route, method, 'responses'];
      for (const key of [String(status), `${String(status)[0]}XX`]) {
        if (!described(...responses, key)) continue;
        const isValid =
          type === 'application/problem+json'
            ? described('components', 'schemas', 'Problem')
            : described(...responses, key, 'content', type, 'schema');
        if (!isValid) return `${type} is not described for ${key}`;
        return isValid(body) ? undefined : isValid.errors;
      }
      return `${status} is not described`;
    };
    const problem = { accept: 'application/problem+json' };
    const cases: [string, string, string, number, () => Promise<Answer>][] = [
      ['a new order', '/v1/orders', 'post', 201, () => orders('/v1/orders', { body: anOrder() })],
      ['an order without a key', '/v1/orders', 'post', 400, () => orders('/v1/orders', { body: { a: 1 } })],
      ['no token', '/v1/orders', 'post', 401, () => api(service.url)('/v1/orders', { body: {} })],
      ['a problem', '/v1/orders', 'post', 400, () => orders('/v1/orders', { body: { a: 1 }, headers: problem })],
      ['a page', '/v1/orders', 'get', 200, () => orders('/v1/orders?limit=1')],
      ['the wrong scope', '/v1/orders', 'get', 403, () => compliance('/v1/orders')],
      ['an order', '/v1/orders/{orderId}', 'get', 200, () => orders(`/v1/orders/${orderId}`)],
      ['no order', '/v1/orders/{orderId}', 'get', 404, () => orders('/v1/orders/ord_1')],
      ['no order', '/v1/orders/{orderId}/cancel', 'post', 404, () => orders('/v1/orders/o/cancel', { method: 'POST' })],
      [
        'a stale version',
        '/v1/orders/{orderId}/cancel',
        'post',
        412,
        () => orders(`/v1/orders/${orderId}/cancel`, { method: 'POST', headers: { 'if-match': '"9"' } }),
      ],
      [
        'a cancelled order',
        '/v1/orders/{orderId}/cancel',
        'post',
        200,
        () => orders(`/v1/orders/${orderId}/cancel`, { body: { reason: 'regret' } }),
      ],
      [
        'an erasure',
        '/v1/customers/{customerId}/erasure',
        'post',
        200,
        () => compliance('/v1/customers/nobody/erasure', { method: 'POST' }),
      ],
      ['the trail', '/v1/audit-events', 'get', 200, () => compliance('/v1/audit-events')],
      ['a wrong query', '/v1/audit-events', 'get', 400, () => compliance('/v1/audit-events?limit=0')],
    ];
    it.each(cases)('%s (%s %s) is answered with %i as described', async (_, route, method, status, ask) => {
      const answer = await ask();
      expect(answer.status).toBe(status);
      expect(faultsOf(route, method, answer)).toBeUndefined();
    });

    it('a cancelled order has no field that is not described', async () => {
      const { body: order } = await orders('/v1/orders', { body: anOrder() });
      const { body } = await orders(`/v1/orders/${order.orderId}/cancel`, { method: 'POST' });
      const { OrderView } = (await api(service.url)('/openapi.json')).body.components.schemas;
      expect(Object.keys(OrderView.properties)).toEqual(expect.arrayContaining(Object.keys(body)));
    });

    it.each<[string, object]>([
      ['an order', anOrder()],
      ['an order of an unknown field', { ...anOrder(), more: 1 }],
      ['an item of an unknown field', anOrder({ items: [{ sku: 'a', quantity: 1, more: 1 }] })],
      ['an amount of an unknown field', anOrder({ totalAmount: { currency: 'USD', value: '99.98', more: 1 } })],
      ['no items', anOrder({ items: [] })],
      ['a quantity that is no integer', anOrder({ items: [{ sku: 'a', quantity: 1.5 }] })],
      ['a customer that is too long', anOrder({ customerId: 'c'.repeat(129) })],
      ['an amount that is a number', anOrder({ totalAmount: { currency: 'USD', value: 99.98 } })],
      ['metadata that is a list', anOrder({ metadata: [] })],
    ])('%s is as good to the service as to the description', async (_, body) => {
      const isValid = described('paths', '/v1/orders', 'post', 'requestBody', 'content', 'application/json', 'schema')!;
      expect((await orders('/v1/orders', { body })).status).toBe(isValid(body) ? 201 : 400);
    });
  });

  it('can be read and tried on a page', async () => {
    const { status, headers, text } = await api(service.url)('/docs');
    expect([status, headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    expect(text).toContain('swagger-ui');
    expect((await api(service.url)('/docs/swagger-ui-bundle.js')).status).toBe(200);
  });

  it.each<[string, Record<string, string>, number]>([
    ['LICENSE', {}, 404],
    ['nothing', {}, 404],
    ['swagger-ui.css', { 'if-match': '"x"' }, 200],
    ['swagger-ui.css', { 'if-unmodified-since': 'Thu, 01 Jan 1970 00:00:00 GMT' }, 200],
    ['swagger-ui.css', { range: 'bytes=99999999-' }, 200],
  ])('has no failure of ours for /docs/%s with %j', async (file, headers, expected) => {
    const { status, body } = await api(service.url)(`/docs/${file}`, { headers });
    expect([status, body?.error.code]).toEqual([expected, expected === 404 ? 'ROUTE_NOT_FOUND' : undefined]);
  });
});
