import { newContext, type Principal, type RequestContext, runInContext } from '@platform/request-context';
import { OrdersService } from './orders.service';

describe('OrdersService.create', () => {
  it('notes for the log which order it was whose answer is given again', async () => {
    const orderId = 'ord_01jfw9v6k3f0qv8w2m4x5y6z7a';
    const first = { orderId, links: { self: `/v1/orders/${orderId}` } };
    const store = { insert: async () => JSON.stringify(first) };
    const counter = { inc: () => undefined };
    const fakes = [store, {}, {}, counter, counter] as unknown as ConstructorParameters<typeof OrdersService>;
    const principal = { tenantId: 'acme', clientId: 'orchestrator' } as Principal;
    const request = { customerId: 'cust_1', items: [], totalAmount: { currency: 'EUR', value: '0.00' } } as never;
    const context: RequestContext = { ...newContext(), principal };
    const { replayed } = await runInContext(context, () =>
      new OrdersService(...fakes).create(principal, 'a-key-of-one', request),
    );
    expect([replayed, context.orderId]).toEqual([true, orderId]);
  });
});
