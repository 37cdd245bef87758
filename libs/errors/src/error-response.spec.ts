import type { IncomingMessage } from 'node:http';
import { ERROR_STATUS, type ErrorCode } from './error-code';
import { errorBody, problemBody, wantsProblem } from './error-response';
import { ServiceError } from './service-error';

const DETAILS = [{ field: 'items[0].sku', message: 'sku should not be empty' }];
const invalid = new ServiceError('ORDER_VALIDATION_FAILED', 'Invalid order payload', {
  details: DETAILS,
  headers: { 'X-Secret': 'canary' },
  cause: new Error('canary'),
});
const missing = new ServiceError('ORDER_NOT_FOUND', 'There is no such order');

describe('wantsProblem', () => {
  it.each<[string | undefined, boolean]>([
    [undefined, false],
    ['*/*', false],
    ['application/json', false],
    ['application/problem+json', true],
    ['application/json;q=0.5, Application/Problem+JSON', true],
    ['application/json, application/problem+json;q=0.5', false],
    ['application/problem+json;charset=utf-8', true],
  ])('given `Accept: %s`: %p', (accept, expected) => {
    expect(wantsProblem({ headers: { accept } } as IncomingMessage)).toBe(expected);
  });

  it('does not weigh thousands of types', () => {
    const headers = { accept: `application/problem+json,${'a/b,'.repeat(4_000)}` };
    expect(wantsProblem({ headers } as IncomingMessage)).toBe(false);
  });
});

describe('errorBody', () => {
  it('has the shape of the guide', () => {
    expect(errorBody(invalid, 'req-1234abcd')).toStrictEqual({
      error: {
        code: 'ORDER_VALIDATION_FAILED',
        message: 'Invalid order payload',
        details: DETAILS,
        correlationId: 'req-1234abcd',
      },
    });
  });

  it('does not repeat all of what a client called a field', () => {
    const name = 'x'.repeat(100_000);
    const details = Array(200).fill({ field: name, message: `property ${name} should not exist` });
    const body = errorBody(new ServiceError('ORDER_VALIDATION_FAILED', 'Invalid order payload', { details }), 'req-1');
    expect(body.error.details).toHaveLength(100);
    expect(JSON.stringify(body).length).toBeLessThan(110_000);
  });

  it('leaves details out of the JSON where there are none', () => {
    expect(JSON.stringify(errorBody(missing, 'req-1'))).toBe(
      '{"error":{"code":"ORDER_NOT_FOUND","message":"There is no such order","correlationId":"req-1"}}',
    );
  });

  it('shows nothing of the cause, the headers or the stack', () => {
    expect(JSON.stringify(errorBody(invalid, 'req-1'))).not.toMatch(/canary|spec\.ts/);
  });
});

describe('problemBody', () => {
  it('has the same facts as problem details', () => {
    expect(problemBody(invalid, 'req-1234abcd', '/v1/orders')).toStrictEqual({
      type: 'urn:order-a2a:problem:order-validation-failed',
      title: 'Bad Request',
      status: 400,
      detail: 'Invalid order payload',
      instance: '/v1/orders',
      code: 'ORDER_VALIDATION_FAILED',
      errors: DETAILS,
      correlationId: 'req-1234abcd',
    });
  });

  it('leaves errors out of the JSON where there are none', () => {
    expect(JSON.parse(JSON.stringify(problemBody(missing, 'req-1', '/v1/orders/ord_x')))).toStrictEqual({
      type: 'urn:order-a2a:problem:order-not-found',
      title: 'Not Found',
      status: 404,
      detail: 'There is no such order',
      instance: '/v1/orders/ord_x',
      code: 'ORDER_NOT_FOUND',
      correlationId: 'req-1',
    });
  });

  it('shows nothing of the cause, the headers or the stack', () => {
    expect(JSON.stringify(problemBody(invalid, 'req-1', '/v1/orders'))).not.toMatch(/canary|spec\.ts/);
  });

  it.each(Object.keys(ERROR_STATUS) as ErrorCode[])('has a type and a title for %s', (code) => {
    const { type, title, status } = problemBody(new ServiceError(code, 'refused'), 'req-1', '/');
    expect(type).toMatch(/^urn:order-a2a:problem:[a-z]+(-[a-z]+)*$/);
    expect(title).toEqual(expect.any(String));
    expect(status).toBe(ERROR_STATUS[code]);
  });
});
