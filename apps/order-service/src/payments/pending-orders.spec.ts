import timers from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { Gauge } from 'prom-client';
import type { OrderLifecycleService } from '../orders/order-lifecycle.service';
import { PendingOrders } from './pending-orders';

describe('PendingOrders', () => {
  afterEach(() => jest.restoreAllMocks());

  it('measures by itself every minute, and says nothing of what it cannot measure', async () => {
    const failure = new Error('away');
    const orders = {
      oldestPending: jest.fn().mockResolvedValue({ withCompanion: 1, alone: 2 }).mockRejectedValueOnce(failure),
      oldestToVoid: jest.fn().mockResolvedValue(3),
    };
    orders.oldestToVoid.mockResolvedValueOnce(4).mockRejectedValueOnce(failure);
    const pending = new Gauge({ name: 'pending', help: '-', labelNames: ['payment'], registers: [] });
    const toVoid = new Gauge({ name: 'to_void', help: '-', registers: [] });
    const values = async (gauge: Gauge) => (await gauge.get()).values.map(({ value }) => value);
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const work = new PendingOrders(orders as unknown as OrderLifecycleService, pending, toVoid);
    expect(await values(toVoid)).toEqual([]); // before it has looked
    pending.set({ payment: 'due' }, 9); // from an earlier look
    const seen: unknown[] = [];
    jest.spyOn(timers, 'setTimeout').mockImplementation(async (ms) => {
      if (seen.push([ms, await values(pending), await values(toVoid)]) === 3) work.beforeApplicationShutdown();
    });
    work.onApplicationBootstrap();
    await work.onApplicationShutdown();
    expect(seen).toEqual([
      [60_000, [], [4]],
      [60_000, [1, 2], []],
      [60_000, [1, 2], [3]],
    ]);
    expect(warn).toHaveBeenCalledTimes(2);
  });
});
