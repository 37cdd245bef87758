import type { OutboundRequest, OutboundResponse } from '@platform/resilience';
import { PaymentApi } from './payment-api';

const JSON_TYPE = { 'content-type': 'application/json' };

describe('PaymentApi', () => {
  const charge = { orderId: 'ord_1', customerId: 'cust_1', amount: { currency: 'EUR', value: '1.00' } };
  const options = { signal: new AbortController().signal };

  /** Of an API that always answers so: what a call comes to, and whether its answer was the expected one. */
  async function given(answer: Partial<OutboundResponse>, call: (api: PaymentApi) => Promise<unknown>) {
    const request = jest.fn<Promise<OutboundResponse>, [OutboundRequest]>();
    const answered = { status: 201, headers: JSON_TYPE, body: undefined, ...answer };
    request.mockResolvedValue(answered);
    const api = new PaymentApi({ request } as never, { paymentApi: { attemptTimeoutMs: 1 } } as never);
    const result = await call(api).catch((error: Error) => error.message);
    return { result, isExpected: request.mock.calls[0]?.[0].isExpected?.(answered) };
  }

  const authorize = (answer: Partial<OutboundResponse>) => given(answer, (api) => api.authorize(charge, options));
  const cancel = (answer: Partial<OutboundResponse>) => given(answer, (api) => api.void('ord_1', 'pay_1', options));

  it.each([201, 200])('gives a payment as it was answered with %i', async (status) => {
    const body = { paymentId: 'pay_1', status: 'AUTHORIZED', more: true };
    const { result, isExpected } = await authorize({ status, body });
    expect(result).toEqual({ paymentId: 'pay_1', status: 'AUTHORIZED' });
    expect(isExpected).toBe(true);
  });

  it.each([
    ['no funds', 'no funds'],
    ['no\0 funds\ud800', 'no funds\ufffd'],
    ['x'.repeat(300), 'x'.repeat(255)],
    ['', undefined],
    ['\0', undefined],
    [5, undefined],
  ])('takes a reason as the database can keep it, and none that says nothing: %j', async (reason, taken) => {
    const { result } = await authorize({ body: { paymentId: 'pay_1', status: 'DECLINED', reason } });
    expect(result).toMatchObject({ status: 'DECLINED' });
    expect((result as { reason?: string }).reason).toBe(taken);
  });

  it.each<[Partial<OutboundResponse>, string]>([
    [{ status: 200, headers: { 'content-type': 'text/html' } }, '200 (text/html): not a JSON object'],
    [{ status: 202, body: { paymentId: 'pay_1', status: 'AUTHORIZED' } }, '202 (application/json)'],
    [{ headers: {} }, '201 (no content type): not a JSON object'],
    [{ body: { paymentId: 'pay_1', status: 'Max Mustermann' } }, '201 (application/json): status'],
    [{ body: { status: 1 } }, '201 (application/json): paymentId, status'],
    [{ body: { paymentId: '.', status: 'AUTHORIZED' } }, '201 (application/json): paymentId'],
    [{ body: { paymentId: '..', status: 'AUTHORIZED' } }, '201 (application/json): paymentId'],
    [{ status: 409, body: { code: 'X' } }, '409 (application/json)'],
  ])('says what is wrong with %j, and no value of it', async (answer, what) => {
    const { result, isExpected } = await authorize(answer);
    expect(result).toBe(`The payment API answered ${what}`);
    expect(isExpected).toBe(false);
  });

  it.each<Partial<OutboundResponse>>([
    { status: 204, headers: {} },
    { status: 200, headers: {} },
    { status: 200, headers: { 'content-type': 'text/plain' } },
    { status: 200, body: {} },
    { status: 200, body: 'OK' },
    { status: 200, body: null },
    { status: 200, body: { paymentId: 'pay_1', status: 'VOIDED' } },
  ])('takes a payment for voided with %j', async (answer) => {
    expect(await cancel(answer)).toEqual({ result: undefined, isExpected: true });
  });

  it.each<[Partial<OutboundResponse>, string]>([
    [{ status: 202 }, '202 (application/json)'],
    [{ status: 200, headers: { 'content-type': 'Text/HTML; charset=utf-8' } }, '200 (Text/HTML; charset=utf-8)'],
    [{ status: 200, body: { status: 'AUTHORIZED' } }, '200 (application/json): status'],
  ])('does not with %j', async (answer, what) => {
    expect(await cancel(answer)).toEqual({ result: `The payment API answered ${what}`, isExpected: false });
  });
});
