import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { type ServiceProcess, spawnService } from '../support/child';
import { type Answer, api, apiOnce } from '../support/client';
import { createDatabase, PATIENT, type TestDatabase } from '../support/database';
import { describeWithRedis, type RedisServer, startRedis } from '../support/redis';
import { TokenIssuer } from '../support/token-issuer';
import { inSomeRound, until } from '../support/until';

const QUOTA = 6;
const PASSWORD = 'canary-password';
/** What a call may take when Redis hangs: the 100 ms for which it is waited for, and a busy machine. */
const FAST_MS = 1_000;

const FALLBACK = 'Redis does not answer: this process counts calls alone';
const RECOVERY = 'Redis answers again: processes count calls together';
const timesIn = (service: ServiceProcess, msg: string) => service.lines.filter((line) => line['msg'] === msg).length;

describeWithRedis('Rate limits with Redis', () => {
  let redis: RedisServer;
  let database: TestDatabase;
  let issuer: TokenIssuer;
  let services: [ServiceProcess, ServiceProcess];
  let clients = 0;

  const start = (overrides: NodeJS.ProcessEnv = {}) =>
    spawnService({
      ROLES: 'api',
      DATABASE_URL: database.url + PATIENT,
      OIDC_ISSUER: issuer.url,
      OIDC_AUDIENCE: 'orders',
      REDIS_URL: redis.url,
      RATE_LIMIT_PER_MINUTE: String(QUOTA),
      ...overrides,
    });

  /** A client that nobody has seen, at both services. */
  const aClient = async () => {
    clients += 1;
    const token = await issuer.sign('ES256', { client_id: `client-${clients}`, tenant: 't' });
    const [first, second] = services.map(({ url }) => apiOnce(url, token));
    if (!first || !second) throw new Error('there are two services');
    return {
      key: `order-service:rate-limit:t\nclient-${clients}`,
      first: () => first('/v1/orders'),
      second: () => second('/v1/orders'),
    };
  };

  const isShared = async ({ url }: ServiceProcess) =>
    (await api(url)('/metrics')).text.includes('\nrate_limit_store_fallback 0') &&
    (await api(url)('/health/ready')).body.info.redis.status === 'up';
  const untilShared = (service: ServiceProcess) => until('sharing', () => isShared(service));
  const untilAlone = (service: ServiceProcess) =>
    until('counting alone', async () => {
      const { status, body } = await api(service.url)('/health/ready');
      const { text } = await api(service.url)('/metrics');
      if (status !== 200) throw new Error('Redis decided that the service is not ready');
      return body.info.redis.status === 'degraded' && text.includes('\nrate_limit_store_fallback 1');
    });

  /** A line comes a moment after the answer: has all that the service has logged so far come. */
  async function catchUp({ url, lines }: ServiceProcess): Promise<void> {
    const requestId = randomUUID();
    await api(url)('/v1/orders', { headers: { 'x-request-id': requestId } });
    await until('the line', () => lines.some((line) => line['requestId'] === requestId));
  }

  /** On a machine so busy that Redis is late by itself, what was asked is asked again. */
  async function whileShared<T>(ask: () => Promise<T>): Promise<T> {
    const fallbacks = async () => {
      await Promise.all(services.map(catchUp));
      return services.map((service) => timesIn(service, FALLBACK)).join();
    };
    for (;;) {
      const before = await fallbacks();
      await Promise.all(services.map(untilShared));
      const answer = await ask();
      if ((await fallbacks()) === before) return answer;
    }
  }

  beforeAll(async () => {
    [redis, database, issuer] = await Promise.all([
      startRedis({ password: PASSWORD }),
      createDatabase(),
      TokenIssuer.start(),
    ]);
    services = await Promise.all([start(), start()]);
  });
  afterAll(async () => {
    for (const service of services) {
      expect(await service.end()).toBe(0);
      expect(JSON.stringify(service.lines)).not.toContain(PASSWORD);
    }
    await redis.kill();
    await issuer.stop();
    await database.drop();
  });

  it('are one budget for two services', async () => {
    const answers = await whileShared(async () => {
      const { first, second } = await aClient();
      const answers: Answer[] = [];
      for (let n = 0; n < QUOTA + 2; n += 1) answers.push(await (n % 2 === 0 ? first() : second()));
      return answers;
    });
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200, 429, 429]);
    const remaining = answers.map(({ headers }) => /r=(\d+)/.exec(headers.get('ratelimit') ?? '')?.[1]);
    expect(remaining).toEqual(['5', '4', '3', '2', '1', '0', '0', '0']);
  });

  it('let no call too many through when all come at once', async () => {
    const answers = await whileShared(async () => {
      const { first, second } = await aClient();
      return Promise.all(Array.from({ length: 5 * QUOTA }, (_, n) => (n % 2 === 0 ? first() : second())));
    });
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(QUOTA);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(4 * QUOTA);
  });

  it('hold until the second that Retry-After says', async () => {
    const client = new Redis(redis.url);
    try {
      const [refused, earlier, admitted] = await whileShared(async () => {
        for (;;) {
          const { first, second, key } = await aClient();
          for (let n = 0; n <= QUOTA; n += 1) await first();
          await client.pexpire(key, 2_000);
          const start = performance.now();
          const refused = await second();
          if (performance.now() - start > 1_000) continue; // asked too late to tell
          await delay(1_000);
          const earlier = await first();
          if (performance.now() - start > 2_000) continue;
          await delay(1_000);
          return [refused, earlier, await second()];
        }
      });
      expect(refused?.headers.get('retry-after')).toBe('2');
      expect([earlier?.status, earlier?.headers.get('retry-after')]).toEqual([429, '1']);
      expect([admitted?.status, admitted?.headers.get('ratelimit')]).toEqual([200, '"client";r=5;t=60']);
    } finally {
      client.disconnect();
    }
  });

  /** Calls in turn until told to stop; what came of them. */
  function load() {
    const seen = { statuses: new Set<number>(), slowestMs: 0, calls: 0 };
    let stopped = false;
    const running = (async () => {
      while (!stopped) {
        const { first } = await aClient();
        const begin = performance.now();
        seen.statuses.add((await first()).status);
        seen.slowestMs = Math.max(seen.slowestMs, performance.now() - begin);
        seen.calls += 1;
      }
    })();
    return async () => {
      stopped = true;
      await running;
      return seen;
    };
  }

  async function replicaOf(...primary: [string, string]): Promise<void> {
    const client = new Redis(redis.url);
    await client.replicaof(...primary);
    client.disconnect();
  }

  it.each<[string, () => Promise<void>, () => Promise<void>]>([
    [
      'is killed and started again',
      () => redis.kill(),
      async () => {
        redis = await redis.restart();
      },
    ],
    [
      'hangs and goes on',
      async () => void redis.process.kill('SIGSTOP'),
      async () => void redis.process.kill('SIGCONT'),
    ],
    [
      'becomes a replica, which answers but counts not',
      () => replicaOf('127.0.0.1', '1'),
      () => replicaOf('NO', 'ONE'),
    ],
  ])('fail no call and slow none down while Redis %s, and are shared again', async (_, goAway, comeBack) => {
    await inSomeRound(async () => {
      await Promise.all(services.map(untilShared));
      const [service] = services;
      await catchUp(service);
      const [warnings, recoveries] = [timesIn(service, FALLBACK), timesIn(service, RECOVERY)];
      const stopLoad = load();
      let seen: Awaited<ReturnType<typeof stopLoad>>;
      try {
        await goAway();
        await untilAlone(service);

        // A budget in each service, whole in both.
        const { first, second } = await aClient();
        for (const ask of [first, second]) {
          const answers: Answer[] = [];
          for (let n = 0; n <= QUOTA; n += 1) answers.push(await ask());
          expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200, 429]);
        }
        await delay(2_500); // several attempts to reach it
        expect(timesIn(service, FALLBACK)).toBe(warnings + 1);
        expect(timesIn(service, RECOVERY)).toBe(recoveries);
      } finally {
        await comeBack();
        await untilShared(service);
        seen = await stopLoad();
      }
      expect([...seen.statuses]).toEqual([200]);
      expect(seen.calls).toBeGreaterThan(10);
      expect(seen.slowestMs).toBeLessThan(FAST_MS);
      await until('the news', () => timesIn(service, RECOVERY) > recoveries);
    });
  });

  it('keep the password out of the log, even one that Redis refuses', async () => {
    const refused = await start({ REDIS_URL: redis.url.replace(PASSWORD, `wrong-${PASSWORD}`), LOG_LEVEL: 'trace' });
    try {
      await untilAlone(refused);
      await until('the warning', () => timesIn(refused, FALLBACK) === 1);
      expect(JSON.stringify(refused.lines)).toContain('WRONGPASS');
      expect(JSON.stringify(refused.lines)).not.toContain(PASSWORD);
    } finally {
      await refused.end();
    }
  });

  it('keep the password out of the log when Redis repeats what it was asked', async () => {
    const other = await startRedis({ password: PASSWORD, renamed: { AUTH: '' } });
    const service = await start({ REDIS_URL: other.url, LOG_LEVEL: 'trace' });
    try {
      const warning = await until('it', () => service.lines.find(({ msg }) => msg === FALLBACK) ?? false);
      expect(warning['reason']).toBe('ERR');
      expect(JSON.stringify(service.lines)).not.toContain(PASSWORD);
    } finally {
      await service.end();
      await other.kill();
    }
  });

  // Commands that answer what is no count to whatever they are asked.
  it.each([
    ['nulls', 'MGET'],
    ['nothing', 'SUNION'],
  ])('are each process’s own when Redis answers %s', async (_, command) => {
    const other = await startRedis({ renamed: { EVAL: '', [command]: 'EVAL' } });
    const service = await start({ REDIS_URL: other.url });
    try {
      await untilShared(service);
      const token = await issuer.sign('ES256', { client_id: 'client-of-another' });
      const { status, headers } = await api(service.url, token)('/v1/orders');
      expect([status, headers.get('ratelimit')]).toEqual([200, '"client";r=5;t=60']);
      await until('the warning', () => timesIn(service, FALLBACK) === 1);
    } finally {
      await service.end();
      await other.kill();
    }
  });

  it('are each process’s own when Redis answers a negative number', async () => {
    const client = new Redis(redis.url);
    try {
      await untilShared(services[0]);
      const { first, key } = await aClient();
      await client.set(key, -100, 'EX', 60);
      expect((await first()).headers.get('ratelimit')).toBe('"client";r=5;t=60');
    } finally {
      client.disconnect();
    }
  });

  it('let a service start while Redis is away, and are shared when it comes', async () => {
    await redis.kill();
    const begin = performance.now();
    const late = await start();
    try {
      await untilAlone(late);
      const { headers } = await api(late.url, await issuer.sign('ES256', { client_id: 'late' }))('/v1/orders');
      expect(headers.get('ratelimit')).toBe('"client";r=5;t=60');
      expect(performance.now() - begin).toBeLessThan(30_000); // nearly all of it is the start of a process
      await catchUp(late);
      expect(timesIn(late, FALLBACK)).toBe(1);
      redis = await redis.restart();
      await untilShared(late);
      expect(JSON.stringify(late.lines)).not.toContain(PASSWORD);
    } finally {
      expect(await late.end()).toBe(0);
    }
  });
});
