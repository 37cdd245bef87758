import { promisify } from 'node:util';
import { gunzip, gzip, zstdCompress, zstdDecompress } from 'node:zlib';
import { Logger } from '@nestjs/common';
import type { Config } from '@platform/config';
import {
  CompressionCodecs,
  CompressionTypes,
  Kafka,
  type KafkaConfig,
  type LogEntry,
  logLevel,
  Partitioners,
  type ProducerConfig,
  type SASLOptions,
} from 'kafkajs';

/**
 * What the records of a batch may be when they are no longer compressed. Zeros shrink to a thousandth and less, so that a
 * batch of 1 MB, which brokers take by default, could fill the memory. Events shrink to a twentieth at best.
 */
const MAX_BATCH_BYTES = 64 * 1024 * 1024;

// kafkajs itself knows gzip alone, without a limit, and what it cannot read stops every partition.
for (const [type, compress, decompress] of [
  [CompressionTypes.GZIP, promisify(gzip), promisify(gunzip)],
  [CompressionTypes.ZSTD, promisify(zstdCompress), promisify(zstdDecompress)],
] as const) {
  CompressionCodecs[type] = () => ({
    compress: ({ buffer }: { buffer: Buffer }) => compress(buffer),
    decompress: (buffer: Buffer) => decompress(buffer, { maxOutputLength: MAX_BATCH_BYTES }),
  });
}

const logger = new Logger('kafkajs');

/** As fields, where Nest's own would make them a part of the text. */
function writeLog({ level, namespace, log: { message, timestamp, logger: _, ...fields } }: LogEntry): void {
  const line = { ...fields, namespace };
  if (level === logLevel.WARN || (level === logLevel.ERROR && isTriedAgain(line, message))) logger.warn(line, message);
  else if (level === logLevel.ERROR) logger.error(line, message);
  else if (level === logLevel.INFO) logger.log(line, message);
  else logger.debug(line, message);
}

/**
 * For kafkajs each answer that is not the wished one is an error, as every member of a group gets with every deployment. A
 * connection tells of single requests: who made one tries again, or says what it failed with.
 */
function isTriedAgain(line: { namespace: string; retryTime?: unknown }, message: string): boolean {
  return line.namespace === 'Connection' || line.retryTime !== undefined || message.endsWith('re-joining the group');
}

/** How every Kafka client of the service connects. Retries little: who calls decides when to try again. */
export function kafkaOptions(kafka: NonNullable<Config['kafka']>): KafkaConfig {
  return {
    clientId: kafka.clientId,
    brokers: [...kafka.brokers],
    ssl: kafka.ssl,
    sasl: kafka.sasl && ({ ...kafka.sasl } as SASLOptions), // kafkajs writes to it
    connectionTimeout: 3_000,
    requestTimeout: 10_000,
    retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 3 },
    logCreator: () => writeLog,
  };
}

/** Kafka for who tells of its failures. */
export function quietKafka(kafka: NonNullable<Config['kafka']>): Kafka {
  return new Kafka({ ...kafkaOptions(kafka), logLevel: logLevel.NOTHING });
}

/** Messages with one key go to one partition, the same as those of other languages' clients. */
export const PRODUCER_OPTIONS: ProducerConfig = {
  allowAutoTopicCreation: false,
  createPartitioner: Partitioners.DefaultPartitioner,
};

/**
 * Whether a broker refused with one of these codes, such as `MESSAGE_TOO_LARGE`
 * (https://kafka.apache.org/protocol#protocol_error_codes). kafkajs wraps what it has tried again.
 */
export function isRefusedWith(error: unknown, codes: ReadonlySet<string>): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (codes.has(String((cause as { type?: unknown }).type))) return true;
  }
  return false;
}
