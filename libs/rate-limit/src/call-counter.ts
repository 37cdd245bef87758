import { Inject, Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import { Redis } from 'ioredis';
import type { Gauge } from 'prom-client';
import { RateLimiterMemory, RateLimiterRedis, type RateLimiterRes } from 'rate-limiter-flexible';
import { WINDOW_SECONDS } from './budget';

/** The longest that a call waits for Redis. */
const TIMEOUT_MS = 100;
/** How often Redis is probed while it is unavailable, and after how long without data a connection is dropped. */
const PROBE_MS = 1_000;

/** The limiters only count. Limits differ from client to client: callers of {@link CallCounter.count} apply them. */
const COUNT_ONLY = { points: Number.MAX_SAFE_INTEGER, duration: WINDOW_SECONDS };

interface Count {
  /** Calls in the current window, including this one and refused ones. */
  readonly calls: number;
  /** Milliseconds until that window ends. */
  readonly resetMs: number;
}

/**
 * Counts calls in windows of a minute. If Redis is configured and answers, all processes count together; otherwise each
 * counts by itself. When Redis fails no call fails, and only the first ones wait for it.
 */
@Injectable()
export class CallCounter implements OnApplicationShutdown {
  private readonly logger = new Logger(CallCounter.name);
  private readonly own = new RateLimiterMemory(COUNT_ONLY);
  /** Prefix of its keys in Redis, which other services may share. */
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
      // A late increment would be one too many: commands do not wait for a connection, and are never sent twice.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      // The primary has become a replica: the host name may lead to the new primary by now.
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
        if (!areNumbers || consumedPoints < 1 || msBeforeNext < 0) throw new Error('Redis did not answer with a count');
        // A Redis key still exists during its last millisecond.
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

  /** Probes with a write: a replica, or a Redis without free memory, would answer a PING. */
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
    // Only the error code of a Redis reply: the rest may repeat the command, and that of AUTH contains the password.
    const reason = name === 'ReplyError' ? /^[A-Z]+/.exec(message)?.[0] : message;
    this.logger.warn({ reason }, 'Redis does not answer: this process counts calls alone');
  }
}

function answerInTime<T extends RateLimiterRes | string>(answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      // The reply may have arrived unread while the process was busy: sockets are read before `setImmediate` fires.
      setImmediate(reject, new Error(`Redis did not answer within ${TIMEOUT_MS} ms`));
    }, TIMEOUT_MS);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
