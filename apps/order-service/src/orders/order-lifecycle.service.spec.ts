import { Logger } from '@nestjs/common';
import { OrderLifecycleService } from './order-lifecycle.service';
import { Order } from './order.entity';

const KNOWN = Object.assign(new Order(), {
  id: '019ab5b0-7c4e-7000-8000-0123456789ab',
  tenantId: 'acme',
  clientId: 'order-orchestrator',
  customerId: 'cust_1',
  status: 'PENDING',
  currency: 'USD',
  totalValue: '1.00',
  items: [],
  metadata: null,
  version: 1,
  eventSequence: 1,
  createdAt: new Date(0),
  updatedAt: new Date(0),
  paymentId: null,
  paymentStatus: null,
  reason: null,
} satisfies Order);

describe('OrderLifecycleService.applyPayment', () => {
  afterEach(() => jest.restoreAllMocks());

  const update = jest.fn<Promise<boolean>, [Order, number, { payload: string } | undefined]>();
  const lifecycle = new OrderLifecycleService({ update } as never, { inc: () => undefined } as never);
  beforeEach(() => update.mockReset().mockResolvedValue(true));

  it.each([
    ['pay_1', 0],
    ['pay_2', 1],
  ])(
    'of an order whose payment is pay_1 keeps it when %s is answered, and says of two that there are',
    async (id, errors) => {
      const error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
      const paid: Order = { ...KNOWN, status: 'CONFIRMED', paymentId: 'pay_1', paymentStatus: 'AUTHORIZED' };
      expect(await lifecycle.applyPayment(paid, { paymentId: id, status: 'AUTHORIZED' })).toBe(paid);
      expect(update).not.toHaveBeenCalled();
      const ids = { paymentId: 'pay_1', otherPaymentId: 'pay_2', otherStatus: 'AUTHORIZED' };
      expect(error.mock.calls).toEqual(
        Array(errors).fill([expect.objectContaining(ids), expect.stringContaining('two payments of an order')]),
      );
    },
  );

  it.each([
    ['insufficient_funds', 'insufficient_funds'],
    [undefined, 'payment_declined'],
  ])('of a payment that is declined with the reason %s tells %s', async (reason, told) => {
    const answer = { paymentId: 'pay_1', status: 'DECLINED', ...(reason && { reason }) } as const;
    const rejected = await lifecycle.applyPayment(KNOWN, answer);
    expect(rejected).toMatchObject({ status: 'REJECTED', reason: told });
    const [, , event] = update.mock.calls[0] ?? [];
    expect(JSON.parse(event?.payload ?? '{}')).toMatchObject({ status: 'REJECTED', reason: told });
  });
});
