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
 * Limit of a decompressed batch. Zeros compress to a thousandth and less, so a batch of 1 MB, which brokers accept by
 * default, could fill the memory. Events compress to a twentieth at best.
 */
const MAX_BATCH_BYTES = 64 * 1024 * 1024;

// kafkajs has only gzip, without a limit, and a batch that it cannot read stops all partitions.
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

/** As structured fields: Nest's own log creator puts them into the text. */
function writeLog({ level, namespace, log: { message, timestamp, logger: _, ...fields } }: LogEntry): void {
  const line: KafkajsLine = { ...fields, namespace };
  if (level === logLevel.DEBUG || isReportedByCaller(line, message)) logger.debug(line, message);
  else if (level === logLevel.WARN || (level === logLevel.ERROR && recoversByItself(line, message)))
    logger.warn(line, message);
  else if (level === logLevel.ERROR) logger.error(line, message);
  else logger.log(line, message);
}

interface KafkajsLine {
  readonly namespace: string;
  readonly retryTime?: unknown;
  readonly retryCount?: unknown;
}

/**
 * Whether a line would only repeat what the caller reports. While Kafka is unavailable, kafkajs logs each attempt to
 * reach it, several a second: each concerns a single request, whose sender retries, or fails in the end and reports it
 * once. The same holds for an event that could not be handled. And few retries are what {@link kafkaOptions} asks for.
 */
function isReportedByCaller({ namespace, retryTime }: KafkajsLine, message: string): boolean {
  if (namespace === 'Connection' || retryTime !== undefined) return true;
  return message === 'Error when calling eachBatch' || message.startsWith('Limiting retries');
}

/**
 * Whether kafkajs recovers by itself from an error: it joins the group again, or restarts, after its last retry or
 * because the group's coordinator has just started or moved.
 */
function recoversByItself({ retryCount }: KafkajsLine, message: string): boolean {
  if (message.startsWith('Crash: ')) return retryCount !== undefined || message.includes('coordinator');
  return message.endsWith('re-joining the group');
}

/** Connection settings of all Kafka clients of the service. Few retries: the caller decides when to try again. */
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

/** A Kafka client that logs nothing, for callers who report failures themselves. */
export function quietKafka(kafka: NonNullable<Config['kafka']>): Kafka {
  return new Kafka({ ...kafkaOptions(kafka), logLevel: logLevel.NOTHING });
}

/** Partitions by key in the same way as other languages' clients. */
export const PRODUCER_OPTIONS: ProducerConfig = {
  allowAutoTopicCreation: false,
  createPartitioner: Partitioners.DefaultPartitioner,
};

/**
 * Whether a broker refused with one of these error codes, such as `MESSAGE_TOO_LARGE`
 * (https://kafka.apache.org/protocol#protocol_error_codes). After retries kafkajs wraps the broker's error.
 */
export function isRefusedWith(error: unknown, codes: ReadonlySet<string>): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (codes.has(String((cause as { type?: unknown }).type))) return true;
  }
  return false;
}
