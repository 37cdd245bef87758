import { Inject, Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import { Redis } from 'ioredis';
import type { Gauge } from 'prom-client';
import { RateLimiterMemory, RateLimiterRedis, type RateLimiterRes } from 'rate-limiter-flexible';
import { WINDOW_SECONDS } from './budget';

/** A call waits no longer for Redis. */
const TIMEOUT_MS = 100;
/** While Redis is away it is looked for this often. A connection on which nothing comes back for so long is dropped. */
const PROBE_MS = 1_000;

/** The limiters only count: how many calls are too many differs from client to client, and is decided above. */
const COUNT_ONLY = { points: Number.MAX_SAFE_INTEGER, duration: WINDOW_SECONDS };

interface Count {
  /** In the window that runs now, this one and those that were refused included. */
  readonly calls: number;
  /** Milliseconds until that window ends. */
  readonly resetMs: number;
}

/**
 * Counts calls in windows of a minute: in Redis if one is configured, so that all processes count together, and in this
 * process alone without one and while it does not answer. No call fails, and only the first ones wait, when it is away.
 */
@Injectable()
export class CallCounter implements OnApplicationShutdown {
  private readonly logger = new Logger(CallCounter.name);
  private readonly own = new RateLimiterMemory(COUNT_ONLY);
  /** Of its keys in Redis, which other services may share. */
  private readonly prefix: string;
  private readonly redis: Redis | undefined;
  private readonly shared: RateLimiterRedis | undefined;
  private readonly prober: NodeJS.Timeout | undefined;
  private store: 'starting' | 'shared' | 'own' = 'starting';

  constructor(
    @Inject(CONFIG) config: Config,
    @InjectMetric('rate_limit_store_fallback') private readonly fallback: Gauge,
  ) {
    this.prefix = `${config.service}:rate-limit`;
    if (config.redisUrl === undefined || !config.roles.includes('api')) return;
    this.redis = new Redis(config.redisUrl, {
      connectTimeout: PROBE_MS,
      socketTimeout: PROBE_MS,
      retryStrategy: () => PROBE_MS,
      // A count that comes late is a count too many: nothing waits for a connection, and nothing is sent twice.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      // A primary that has become a replica; the name may lead to the new one by now.
      reconnectOnError: (error) => error.message.startsWith('READONLY'),
    });
    this.shared = new RateLimiterRedis({ ...COUNT_ONLY, keyPrefix: this.prefix, storeClient: this.redis });
    this.redis.on('ready', () => void this.probe());
    this.redis.on('error', (error) => this.fallBack(error));
    this.redis.on('close', () => this.fallBack(new Error('The connection was closed')));
    this.prober = setInterval(() => {
      if (this.store !== 'shared') void this.probe();
    }, PROBE_MS).unref();
  }

  get isConfigured(): boolean {
    return this.redis !== undefined;
  }

  /** @throws {Error} while this process counts alone although Redis is configured */
  assertShared(): void {
    if (this.store !== 'shared') throw new Error('does not answer: each process counts calls alone');
  }

  async count(key: string): Promise<Count> {
    if (this.shared && this.store === 'shared') {
      try {
        const { consumedPoints, msBeforeNext } = await answerInTime(this.shared.consume(key));
        const areNumbers = Number.isSafeInteger(consumedPoints) && Number.isSafeInteger(msBeforeNext);
        if (!areNumbers || consumedPoints < 1 || msBeforeNext < 0) throw new Error('Redis answered what is no count');
        // A key lives through its last millisecond.
        return { calls: consumedPoints, resetMs: msBeforeNext + 1 };
      } catch (error) {
        this.fallBack(error);
      }
    }
    const { consumedPoints, msBeforeNext } = await this.own.consume(key);
    return { calls: consumedPoints, resetMs: msBeforeNext };
  }

  onApplicationShutdown(): void {
    clearInterval(this.prober);
    this.redis?.removeAllListeners('close').disconnect();
  }

  /** Writes, because a replica or a Redis that is full would answer a PING. */
  private async probe(): Promise<void> {
    if (this.redis?.status !== 'ready') return;
    try {
      await answerInTime(this.redis.set(`${this.prefix}:probe`, '1', 'PX', PROBE_MS));
      if (this.store === 'own') this.logger.log('Redis answers again: processes count calls together');
      this.store = 'shared';
      this.fallback.set(0);
    } catch (error) {
      this.fallBack(error);
    }
  }

  private fallBack(error: unknown): void {
    if (this.store === 'own') return;
    this.store = 'own';
    this.fallback.set(1);
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    // Of what Redis answered its code only: the rest may repeat the command, and with AUTH that is the password.
    const reason = name === 'ReplyError' ? /^[A-Z]+/.exec(message)?.[0] : message;
    this.logger.warn({ reason }, 'Redis does not answer: this process counts calls alone');
  }
}

function answerInTime<T extends RateLimiterRes | string>(answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      // It may have come while this process was busy, and lie unread: the event loop reads before it gets to this.
      setImmediate(reject, new Error(`Redis did not answer within ${TIMEOUT_MS} ms`));
    }, TIMEOUT_MS);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
