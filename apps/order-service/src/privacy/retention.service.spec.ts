import timers from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { RetentionService } from './retention.service';

describe('RetentionService', () => {
  afterEach(() => jest.restoreAllMocks());

  it('sweeps by itself every ten minutes or so, also after a sweep that failed', async () => {
    const none = {} as never;
    const retention = new RetentionService(none, none, none);
    const failure = new Error('away');
    const sweep = jest.spyOn(retention, 'sweep').mockRejectedValueOnce(failure).mockResolvedValue({});
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    jest.spyOn(Math, 'random').mockReturnValue(0.5);
    const pauses: unknown[] = [];
    jest.spyOn(timers, 'setTimeout').mockImplementation(async (ms) => {
      if (pauses.push(ms) === 3) retention.beforeApplicationShutdown();
    });
    retention.onApplicationBootstrap();
    await retention.onApplicationShutdown();
    expect(pauses).toEqual([600_000, 600_000, 600_000]);
    expect(sweep).toHaveBeenCalledTimes(2);
    expect(warn.mock.calls).toEqual([[{ err: failure }, expect.any(String)]]);
  });
});
