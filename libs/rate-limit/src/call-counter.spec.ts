import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { Logger } from '@nestjs/common';
import type { Config } from '@platform/config';
import type { Gauge } from 'prom-client';
import { CallCounter } from './call-counter';

const INFO = 'redis_version:7.4.0\r\n';
/** What a server answers that has counted seven calls, and where a minute is left. */
const SEVEN_CALLS = '*2\r\n:7\r\n:60000\r\n';

describe('CallCounter', () => {
  let onCounted: () => void;
  let end: () => void;
  let counter: CallCounter;

  /** Counts with a server that speaks as much of Redis as that takes. */
  beforeEach(async () => {
    jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    jest.spyOn(Logger.prototype, 'log').mockImplementation();
    onCounted = () => undefined;
    const server = createServer((socket) => {
      socket.on('data', (bytes) => {
        for (const command of bytes.toString().split(/^(?=\*\d+\r\n)/m)) {
          const [, , name = ''] = command.split('\r\n');
          const isCount = name.startsWith('eval');
          if (name === 'info') socket.write(`$${INFO.length}\r\n${INFO}\r\n`);
          else socket.write(isCount ? SEVEN_CALLS : '+OK\r\n');
          if (isCount) onCounted();
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const redisUrl = `redis://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await new Promise<void>((resolve) => {
      const fallback = { set: (value: number) => value === 0 && resolve() };
      counter = new CallCounter(
        { service: 'things', redisUrl, roles: ['api'] } as unknown as Config,
        fallback as unknown as Gauge,
      );
    });
    end = () => {
      counter.onApplicationShutdown();
      server.close();
    };
  });
  afterEach(() => {
    jest.restoreAllMocks();
    end();
  });

  it('takes an answer that lies unread when its time is over, because this process was busy', async () => {
    const inTheEventLoop = setTimeout;
    let timeIsOver = () => undefined as void;
    jest.spyOn(globalThis, 'setTimeout').mockImplementation(((callback: () => void) => {
      timeIsOver = callback;
    }) as never);
    onCounted = () => {
      inTheEventLoop(() => timeIsOver(), 1);
      const start = performance.now();
      while (performance.now() - start < 50); // the answer comes, and the timer is due before the event loop reads it
    };
    expect(await counter.count('key')).toEqual({ calls: 7, resetMs: 60_001 });
  });

  it('reaches for no Redis in a process that takes no calls', () => {
    const config = { service: 'things', redisUrl: 'redis://127.0.0.1:9', roles: ['worker'] } as unknown as Config;
    const idle = new CallCounter(config, { set: () => undefined } as unknown as Gauge);
    idle.onApplicationShutdown();
    expect(idle.isConfigured).toBe(false);
  });

  it('does not warn of a connection that it closes itself', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockClear();
    const closed = once(counter['redis']!, 'end');
    counter.onApplicationShutdown();
    await closed;
    expect(warn).not.toHaveBeenCalled();
  });
});
