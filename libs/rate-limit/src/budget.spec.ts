import { rateLimited, rateLimitHeaders } from './budget';

const budget = { policy: 'client', quota: 6_000, remaining: 5_999, resetMs: 60_000 } as const;

describe('rateLimitHeaders', () => {
  it('writes the policy and what is left of it as structured fields', () => {
    expect(rateLimitHeaders(budget)).toEqual({
      'RateLimit-Policy': '"client";q=6000;w=60',
      RateLimit: '"client";r=5999;t=60',
    });
  });

  it.each([
    [59_001, 60],
    [59_000, 59],
    [1_001, 2],
    [1_000, 1],
    [1, 1],
    [0, 1],
    [3_600_000, 60],
  ])('says of %d ms until the window ends: %d s', (resetMs, seconds) => {
    expect(rateLimitHeaders({ ...budget, resetMs })['RateLimit']).toBe(`"client";r=5999;t=${seconds}`);
  });
});

describe('rateLimited', () => {
  it('is 429 RATE_LIMITED, and says when to come again', () => {
    const { code, status, headers } = rateLimited({ policy: 'address', quota: 2, remaining: 0, resetMs: 41_200 });
    expect([code, status]).toEqual(['RATE_LIMITED', 429]);
    expect(headers).toEqual({
      'RateLimit-Policy': '"address";q=2;w=60',
      RateLimit: '"address";r=0;t=42',
      'Retry-After': '42',
    });
  });
});
