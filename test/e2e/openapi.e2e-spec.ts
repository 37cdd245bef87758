import { api } from '../support/client';
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
    expect(Object.keys(body.paths['/v1/orders'].post.responses)).toEqual(['201', '429', '4XX', '5XX']);
    expect(body.paths['/v1/orders/{orderId}'].get.security).toEqual([{ accessToken: ['orders:read'] }]);
    expect(body.components.schemas.CreateOrderDto.required).toEqual(['customerId', 'items', 'totalAmount']);
    expect(body.components.schemas.ErrorFacts.properties.code.enum).toContain('IDEMPOTENCY_KEY_REUSED');
  });

  it('can be read and tried on a page', async () => {
    const { status, headers, text } = await api(service.url)('/docs');
    expect([status, headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    expect(text).toContain('swagger-ui');
    expect((await api(service.url)('/docs/swagger-ui-bundle.js')).status).toBe(200);
  });
});
