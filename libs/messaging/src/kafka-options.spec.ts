import { Logger } from '@nestjs/common';
import { logLevel } from 'kafkajs';
import { kafkaOptions } from './kafka-options';

describe('kafkaOptions', () => {
  const kafka = { brokers: [], ssl: false, sasl: undefined, consumerGroup: 'g' };
  const write = kafkaOptions(kafka).logCreator!(logLevel.INFO);

  afterEach(() => jest.restoreAllMocks());

  it.each([
    [logLevel.ERROR, 'error'],
    [logLevel.WARN, 'warn'],
    [logLevel.INFO, 'log'],
    [logLevel.DEBUG, 'debug'],
  ] as const)('have what kafkajs says at level %i written by %s, with its fields', (level, method) => {
    const written = jest.spyOn(Logger.prototype, method).mockImplementation();
    const log = { timestamp: '2026-11-29T08:32:26.442Z', logger: 'kafkajs', message: 'It is so', groupId: 'g' };
    write({ namespace: 'Runner', level, label: 'LABEL', log });
    expect(written).toHaveBeenCalledWith({ namespace: 'Runner', groupId: 'g' }, 'It is so');
  });
});
