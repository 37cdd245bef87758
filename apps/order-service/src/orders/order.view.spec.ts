import { Order } from './order.entity';
import { orderJson, toOrderView } from './order.view';

const ORDER: Order = Object.assign(new Order(), {
  id: '019ab5b0-7c4e-7000-8000-0123456789ab',
  tenantId: 'acme',
  clientId: 'order-orchestrator',
  customerId: 'cust_"1\\\u2028',
  status: 'CANCELLED',
  currency: 'USD',
  totalValue: '129.99',
  items: [
    { sku: 'ABC-001', quantity: 2, unitPrice: '49.99' },
    { sku: '"', quantity: 1 },
  ],
  metadata: { nested: { list: [1, null, 'x'] } },
  version: 2,
  eventSequence: 2,
  createdAt: new Date('2026-11-24T15:44:07.290Z'),
  updatedAt: new Date('2026-11-24T15:44:08.000Z'),
  paymentId: 'pay_"1',
  paymentStatus: 'VOIDED',
  reason: 'a "b"\\\u2028',
} satisfies Order);

describe('orderJson', () => {
  it.each<[string, Partial<Order>]>([
    ['an order with everything', {}],
    [
      'an order without metadata, payment and reason',
      { metadata: null, paymentId: null, paymentStatus: null, reason: null },
    ],
  ])('is the JSON of what toOrderView gives for %s, in the same order', (_, part) => {
    const order = { ...ORDER, ...part };
    const shown = {
      ...order,
      items: JSON.stringify(order.items),
      metadata: order.metadata && JSON.stringify(order.metadata),
      createdAt: '2026-11-24 15:44:07.29+00',
      updatedAt: '2026-11-24 15:44:08+00',
    };
    expect(orderJson(shown)).toBe(JSON.stringify(toOrderView(order)));
  });
});
