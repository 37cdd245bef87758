import { loadConfig } from '@platform/config';
import { Counter, Registry } from 'prom-client';
import { FailedAuthentications } from './failed-authentications';

const REQUIRED = { DATABASE_URL: 'postgres://h/d', OIDC_ISSUER: 'https://id.example', OIDC_AUDIENCE: 'orders' };

function failuresAllowed(perMinute: number) {
  const config = loadConfig('things', { ...REQUIRED, RATE_LIMIT_FAILED_AUTH_PER_MINUTE: String(perMinute) });
  const refusals = new Counter({ name: 'refusals', help: '-', labelNames: ['limit'], registers: [new Registry()] });
  return { failed: new FailedAuthentications(config, refusals), refusals };
}

/** The seconds to wait, or undefined where the address may go on. */
function refusalOf(failed: FailedAuthentications, address: string): string | undefined {
  try {
    failed.assertWithinLimit(address);
    return undefined;
  } catch (error) {
    return (error as { headers: Record<string, string> }).headers['Retry-After'];
  }
}

describe('FailedAuthentications', () => {
  beforeEach(() => jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick'] }));
  afterEach(() => jest.useRealTimers());

  it('refuses an address from the limit on until its window ends, to the second', async () => {
    const { failed, refusals } = failuresAllowed(2);
    failed.count('192.0.2.1');
    jest.advanceTimersByTime(10_500);
    expect(refusalOf(failed, '192.0.2.1')).toBeUndefined();
    failed.count('192.0.2.1');
    expect(refusalOf(failed, '192.0.2.1')).toBe('50');
    expect((await refusals.get()).values).toMatchObject([{ labels: { limit: 'address' }, value: 1 }]);
    jest.advanceTimersByTime(49_000);
    expect(refusalOf(failed, '192.0.2.1')).toBe('1');
    jest.advanceTimersByTime(1_000);
    expect(refusalOf(failed, '192.0.2.1')).toBeUndefined();
    failed.count('192.0.2.1');
    expect(refusalOf(failed, '192.0.2.1')).toBeUndefined();
  });

  it('does not prolong the window of who goes on failing', () => {
    const { failed } = failuresAllowed(1);
    for (let second = 0; second < 59; second += 1) {
      failed.count('192.0.2.1');
      jest.advanceTimersByTime(1_000);
    }
    expect(refusalOf(failed, '192.0.2.1')).toBe('1');
  });

  it('takes an IPv6 /64 for one address, and any two others for two', () => {
    const { failed } = failuresAllowed(1);
    failed.count('2001:db8:0:1::1');
    expect(refusalOf(failed, '2001:db8:0:1::2')).toBe('60');
    expect(refusalOf(failed, '2001:db8:0:2::1')).toBeUndefined();
    expect(refusalOf(failed, '192.0.2.1')).toBeUndefined();
  });

  it('forgets the oldest beyond 10,000 addresses', () => {
    const { failed } = failuresAllowed(1);
    const address = (n: number) => `10.0.${n >> 8}.${n & 255}`;
    for (let n = 0; n <= 10_000; n += 1) failed.count(address(n));
    expect(refusalOf(failed, address(0))).toBeUndefined();
    expect(refusalOf(failed, address(1))).toBe('60');
    expect(refusalOf(failed, address(10_000))).toBe('60');
  });

  it('keeps those whose window runs when it forgets those whose window has ended', () => {
    const { failed } = failuresAllowed(1);
    failed.count('192.0.2.1');
    jest.advanceTimersByTime(30_000);
    failed.count('192.0.2.2');
    jest.advanceTimersByTime(30_000);
    failed.count('192.0.2.1');
    expect(refusalOf(failed, '192.0.2.2')).toBe('30');
    expect(refusalOf(failed, '192.0.2.1')).toBe('60');
  });

  it('refuses nobody at 0', () => {
    const { failed } = failuresAllowed(0);
    failed.count('192.0.2.1');
    expect(refusalOf(failed, '192.0.2.1')).toBeUndefined();
  });

  it('lets through whose address is not known', () => {
    const { failed } = failuresAllowed(1);
    failed.count(undefined);
    expect(() => failed.assertWithinLimit(undefined)).not.toThrow();
  });
});
