import { gzipSync, zstdCompressSync } from 'node:zlib';
import { Logger } from '@nestjs/common';
import { loadConfig } from '@platform/config';
import { CompressionCodecs, CompressionTypes, logLevel } from 'kafkajs';
import { kafkaOptions } from './kafka-options';

describe('kafkaOptions', () => {
  const kafka = { brokers: [], ssl: false, sasl: undefined, clientId: 'things', consumerGroup: 'g' };
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

  it.each([
    [
      'Connection',
      'Response Heartbeat(key: 12, version: 3)',
      { error: 'The group is rebalancing, so a rejoin is needed' },
    ],
    ['Connection', 'Connection error: connect ECONNREFUSED 127.0.0.1:9092', { stack: 'at' }],
    ['BrokerPool', 'Failed to connect to seed broker, trying another', { retryCount: 0, retryTime: 83 }],
    ['Producer', 'Failed to send messages: There is no leader', { retryCount: 0, retryTime: 100 }],
    ['Runner', 'Error when calling eachBatch', { topic: 't', partition: 0, offset: '1' }],
    ['Producer', 'Limiting retries for the idempotent producer may invalidate EoS guarantees', {}],
  ])('say only to who debugs what the caller says once: %s: %s', (namespace, message, fields) => {
    const others = (['error', 'warn', 'log'] as const).map((method) => jest.spyOn(Logger.prototype, method));
    const written = jest.spyOn(Logger.prototype, 'debug').mockImplementation();
    const log = { timestamp: '2026-11-29T08:32:26.442Z', message, ...fields };
    write({ namespace, level: logLevel.ERROR, label: 'ERROR', log });
    expect(written).toHaveBeenCalledWith({ namespace, ...fields }, message);
    for (const other of others) expect(other).not.toHaveBeenCalled();
  });

  it.each([
    ['Runner', 'The coordinator is not aware of this member, re-joining the group', { groupId: 'g' }],
    ['Consumer', 'Crash: KafkaJSNumberOfRetriesExceeded: Connection error', { groupId: 'g', retryCount: 8 }],
    ['Consumer', 'Crash: KafkaJSProtocolError: The coordinator is loading', { groupId: 'g', retryCount: undefined }],
  ])('call no error what kafkajs deals with by itself: %s: %s', (namespace, message, fields) => {
    const written = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    const log = { timestamp: '2026-11-29T08:32:26.442Z', message, ...fields };
    write({ namespace, level: logLevel.ERROR, label: 'ERROR', log });
    expect(written).toHaveBeenCalledWith({ namespace, ...fields }, message);
    expect(error).not.toHaveBeenCalled();
  });

  it.each([
    [
      'Consumer',
      'Crash: KafkaJSProtocolError: Not authorized to access group',
      { groupId: 'g', retryCount: undefined },
    ],
    ['SaslAuthenticator-PLAIN', 'SASL PLAIN authentication failed', { broker: 'b:1' }],
  ])('call an error what ends a consumer or keeps it from beginning: %s: %s', (namespace, message, fields) => {
    const written = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    const log = { timestamp: '2026-11-29T08:32:26.442Z', message, ...fields };
    write({ namespace, level: logLevel.ERROR, label: 'ERROR', log });
    expect(written).toHaveBeenCalledWith({ namespace, ...fields }, message);
  });

  it.each([true, false])('use TLS where that is set: %p', (ssl) => {
    expect(kafkaOptions({ ...kafka, ssl }).ssl).toBe(ssl);
  });

  it('have credentials of their own, which kafkajs writes to', () => {
    const config = loadConfig('things', {
      DATABASE_URL: 'postgres://127.0.0.1/none',
      OIDC_ISSUER: 'https://idp.example',
      OIDC_AUDIENCE: 'orders',
      KAFKA_BROKERS: '127.0.0.1:9092',
      KAFKA_SASL_MECHANISM: 'plain',
      KAFKA_SASL_USERNAME: 'user',
      KAFKA_SASL_PASSWORD: 'password',
    });
    const { sasl } = kafkaOptions(config.kafka!);
    expect(sasl).toEqual({ mechanism: 'plain', username: 'user', password: 'password' });
    expect(Object.isExtensible(sasl)).toBe(true);
  });
});

describe('compressed records', () => {
  const LARGEST = 64 * 1024 * 1024;

  it.each([
    ['gzip', CompressionTypes.GZIP, gzipSync],
    ['zstd', CompressionTypes.ZSTD, zstdCompressSync],
  ] as const)('of %s are read up to a size, however small they came', async (_, type, compress) => {
    const codec = CompressionCodecs[type]() as { decompress(buffer: Buffer): Promise<Buffer> };
    const bytes = Buffer.alloc(LARGEST + 1);
    expect((await codec.decompress(compress(bytes.subarray(1)))).length).toBe(LARGEST);
    await expect(codec.decompress(compress(bytes))).rejects.toThrow('Cannot create a Buffer larger than');
  });
});
