import type { Config } from '@platform/config';
import { ErasureService } from './erasure.service';
import { type ErasureStore, PaymentUnderWay } from './erasure-store';

describe('ErasureService', () => {
  it('counts the orders that were erased before it met a payment, too', async () => {
    const met = Object.assign(new PaymentUnderWay('An order of the customer is being paid'), { ordersErased: 5_000 });
    const erase = jest.fn().mockRejectedValueOnce(met).mockResolvedValueOnce(7_000);
    const service = new ErasureService({ pseudonymKey: 'a-key' } as Config, { erase } as unknown as ErasureStore);
    const principal = { tenantId: 'acme', clientId: 'compliance', scopes: new Set<string>() };
    expect(await service.erase(principal, 'cust_1')).toMatchObject({ ordersErased: 12_000 });
  });
});
