import timers from 'node:timers/promises';
import { Kafka } from 'kafkajs';
import { Gauge } from 'prom-client';
import { DeadLetterGauge } from './dead-letter-gauge';

describe('DeadLetterGauge', () => {
  afterEach(() => jest.restoreAllMocks());

  it('measures by itself every minute, until the application shuts down', async () => {
    const records = new Gauge({ name: 'records', help: 'records', registers: [] });
    const gauge = new DeadLetterGauge({} as never, 'things', records);
    const measure = jest.spyOn(gauge, 'measure').mockResolvedValue();
    const pauses: unknown[] = [];
    const ended = new Promise<void>((resolve) => {
      jest.spyOn(timers, 'setTimeout').mockImplementation(async (ms) => {
        if (pauses.push(ms) < 3) return;
        gauge.beforeApplicationShutdown();
        setImmediate(resolve);
      });
    });
    gauge.onApplicationBootstrap();
    await ended;
    expect(pauses).toEqual([60_000, 60_000, 60_000]);
    expect(measure).toHaveBeenCalledTimes(3);
  });

  it('closes its connection each time, also when it could not measure', async () => {
    const records = new Gauge({ name: 'records', help: 'records', registers: [] });
    const admin = {
      connect: async () => undefined,
      listTopics: async () => ['things.dlq'],
      fetchTopicOffsets: jest
        .fn()
        .mockResolvedValueOnce([
          { low: '1', high: '3' },
          { low: '0', high: '4' },
        ])
        .mockRejectedValueOnce(new Error('away')),
      disconnect: jest.fn(async () => undefined),
    };
    jest.spyOn(Kafka.prototype, 'admin').mockReturnValue(admin as never);
    const gauge = new DeadLetterGauge({ brokers: ['127.0.0.1:9'] } as never, 'things', records);
    await gauge.measure();
    expect((await records.get()).values.map(({ value }) => value)).toEqual([6]);
    expect(admin.disconnect).toHaveBeenCalledTimes(1);
    await gauge.measure();
    expect((await records.get()).values).toEqual([]);
    expect(admin.disconnect).toHaveBeenCalledTimes(2);
  });
});
