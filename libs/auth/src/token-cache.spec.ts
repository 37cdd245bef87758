import type { JWTPayload } from 'jose';
import { TokenCache } from './token-cache';
import { VerificationKey } from './verification-key';

const SECRET = 'a-shared-secret-of-at-least-32-characters';
const NOW_S = 1_800_000_000;
const TOLERANCE_S = 5;

const principal = { clientId: 'a-client', tenantId: 'a-tenant', scopes: new Set<string>() };

describe('TokenCache', () => {
  const key = VerificationKey.ofSharedSecret(SECRET);
  const clock = jest.spyOn(Date, 'now');
  const at = (seconds: number) => clock.mockReturnValue(seconds * 1_000);

  beforeEach(() => at(NOW_S));
  afterAll(() => clock.mockRestore());

  const cacheWith = (claims: JWTPayload) => {
    const cache = new TokenCache(10, TOLERANCE_S);
    cache.set('token', claims, key, principal);
    return cache;
  };

  it('knows the token that it was given, and no other', () => {
    const cache = cacheWith({ exp: NOW_S + 60 });
    expect(cache.get('token')?.principal).toBe(principal);
    expect(cache.get('token ')).toBeUndefined();
    expect(cache.get('')).toBeUndefined();
  });

  it.each([
    [NOW_S + 60, NOW_S + 65],
    [NOW_S + 59.5, NOW_S + 65],
  ])('forgets a token with exp %d at %d, when the tolerance is over', (exp, end) => {
    const cache = cacheWith({ exp });
    at(end - 0.001);
    expect(cache.get('token')).toBeDefined();
    at(end);
    expect(cache.get('token')).toBeUndefined();
    at(NOW_S);
    expect(cache.get('token')).toBeUndefined();
  });

  it('does not know a token before nbf, should the clock be set back', () => {
    const claims = { exp: NOW_S + 60, nbf: NOW_S };
    at(NOW_S - 5);
    expect(cacheWith(claims).get('token')).toBeDefined();
    at(NOW_S - 5.001);
    expect(cacheWith(claims).get('token')).toBeUndefined();
  });

  it('does not keep what has no expiry', () => {
    expect(cacheWith({}).get('token')).toBeUndefined();
  });

  it('forgets the tokens of a key that was revoked, and those of no other', () => {
    const cache = cacheWith({ exp: NOW_S + 60 });
    const revoked = VerificationKey.ofSharedSecret(SECRET);
    cache.set('other', { exp: NOW_S + 60 }, revoked, principal);
    revoked.isRevoked = true;
    expect(cache.get('other')).toBeUndefined();
    expect(cache.get('token')).toBeDefined();
  });

  it('keeps as many tokens as it may, those used last', () => {
    const cache = new TokenCache(3, TOLERANCE_S);
    const knows = (token: string) => cache.get(token) !== undefined;
    for (const token of ['a', 'b', 'c']) cache.set(token, { exp: NOW_S + 60 }, key, principal);
    expect(knows('a')).toBe(true);
    cache.set('d', { exp: NOW_S + 60 }, key, principal);
    expect(['a', 'b', 'c', 'd'].filter(knows)).toEqual(['a', 'c', 'd']);
    for (let i = 0; i < 1_000; i += 1) cache.set(`token-${i}`, { exp: NOW_S + 60 }, key, principal);
    expect(Array.from({ length: 1_000 }, (_, i) => `token-${i}`).filter(knows)).toHaveLength(3);
  });

  it('holds no token', () => {
    const { tokens } = cacheWith({ exp: NOW_S + 60 }) as unknown as { tokens: Map<string, unknown> };
    expect([...tokens.keys()]).toEqual(['PEaenWxYddN6Q/NT1PiOYfz4EsZu7jRXRlpAsNpBU+A=']);
  });
});
