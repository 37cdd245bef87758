import { generateKeyPairSync } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Controller, Get } from '@nestjs/common';
import { AccessTokenVerifier } from '@platform/auth';
import type { JWTPayload } from 'jose';
import { type Answer, api, apiOnce, fetchToken, metric } from '../support/client';
import { startService, type TestService } from '../support/service';
import { TokenIssuer } from '../support/token-issuer';
import { until } from '../support/until';

const DISCOVERY = '/.well-known/openid-configuration';

const now = () => Math.floor(Date.now() / 1_000);
const part = (json: object) => Buffer.from(JSON.stringify(json)).toString('base64url');
const ecKeys = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });

const realNow = performance.now.bind(performance);
let skipped = 0;
/** Lets time go by for what is measured with the monotonic clock; timers do not notice. */
const skip = (ms: number) => {
  skipped += ms;
  jest.spyOn(performance, 'now').mockImplementation(() => realNow() + skipped);
};
afterAll(() => jest.restoreAllMocks());
/** Then an unknown key is asked for at the provider, however short a while ago another was. */
const skipCooldown = () => skip(10_001);

/** Stops the clock by which tokens are good, for `setSystemTime` to set; timers and the monotonic clock go on. */
const stopClock = () =>
  jest.useFakeTimers({
    doNotFake: [
      ...(['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'setImmediate', 'clearImmediate'] as const),
      ...(['hrtime', 'nextTick', 'performance', 'queueMicrotask'] as const),
    ],
  });
afterEach(() => jest.useRealTimers());

describe('Access tokens', () => {
  let issuer: TokenIssuer;
  let service: TestService;

  beforeAll(async () => {
    issuer = await TokenIssuer.start();
    service = await startService({ OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: 'orders', OIDC_TENANT_CLAIM: 'org' });
    await until('the first keys', async () => (await list(await issuer.sign('ES256'))).status === 200);
  });
  afterAll(async () => {
    await service.stop();
    await issuer.stop();
  });

  const list = (token: string): Promise<Answer> => api(service.url, token)('/v1/orders');
  const failures = (reason: string) => metric(service.url, `auth_failures_total{reason="${reason}"}`);

  it.each(['RS256', 'PS256', 'ES256', 'EdDSA'])('accepts %s by the keys found through discovery', async (alg) => {
    expect((await list(await issuer.sign(alg))).status).toBe(200);
  });

  it.each<[string, () => Promise<string>]>([
    ['an audience among several', () => issuer.sign('ES256', { aud: ['other', 'orders'] })],
    ['scopes in scp', () => issuer.sign('ES256', { scope: undefined, scp: ['orders:read'] })],
    [
      'scopes in an scp that is a text',
      () => issuer.sign('ES256', { scope: undefined, scp: 'audit:read orders:read' }),
    ],
    ['scopes in scope, beside an scp without them', () => issuer.sign('ES256', { scp: ['audit:read'] })],
    ['an expiry of 4 s ago', () => issuer.sign('ES256', { exp: now() - 4 })],
    ['a start in 4 s', () => issuer.sign('ES256', { nbf: now() + 4 })],
  ])('accepts %s', async (_, token) => {
    stopClock(); // a token of 4 s ago may be too old in the next second
    expect((await list(await token())).status).toBe(200);
  });

  it.each<[string, JWTPayload, string]>([
    ['client_id', { client_id: 'a', azp: 'b', sub: 'c' }, 'a'],
    ['azp, without client_id', { client_id: undefined, azp: 'b', sub: 'c' }, 'b'],
    ['sub, without both', { client_id: undefined, sub: 'c' }, 'c'],
  ])('take the client id from %s', async (_, claims, clientId) => {
    const token = await issuer.sign('ES256', claims);
    expect((await list(token)).status).toBe(200);
    expect(service.app.get(AccessTokenVerifier).recall(token)).toMatchObject({ clientId });
  });

  const claims = () => ({ iss: issuer.url, aud: 'orders', client_id: 'c', scope: 'orders:read', exp: now() + 60 });
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const publicKeyAsSecret = () =>
    Buffer.from(issuer.keys['RS256']?.publicKey.export({ type: 'spki', format: 'pem' }) ?? '');

  /** Another spelling of the same signature: of the last character of an RS256 signature only two bits count. */
  const withUnusedBits = (token: string) => token.replace(/.$/, (last) => String.fromCharCode(last.charCodeAt(0) + 1));

  it.each<[string, string, () => Promise<string>]>([
    ['another issuer', 'issuer', () => issuer.sign('RS256', { iss: 'https://evil.example' })],
    ['another audience', 'audience', () => issuer.sign('RS256', { aud: 'others' })],
    ['no audience', 'audience', () => issuer.sign('RS256', { aud: undefined })],
    ['a signature by another key', 'signature', () => issuer.sign('RS256', {}, { key: stranger })],
    ['a signature with other unused bits', 'signature', async () => withUnusedBits(await issuer.sign('RS256'))],
    ['a signature that was changed', 'signature', async () => `${(await issuer.sign('RS256')).slice(0, -8)}AAAAAAAA`],
    [
      'claims that were changed',
      'signature',
      async () => (await issuer.sign('ES256')).replace(/\.[^.]+\./, `.${part(claims())}.`),
    ],
    ['no signature (alg: none)', 'algorithm', async () => `${part({ alg: 'none' })}.${part(claims())}.`],
    [
      'HS256 signed with the public key',
      'algorithm',
      () => issuer.sign('HS256', {}, { kid: 'RS256', key: publicKeyAsSecret() }),
    ],
    ['an algorithm that is not on the list', 'algorithm', () => issuer.sign('RS512')],
    ['an unknown key', 'unknown_key', () => issuer.sign('RS256', {}, { kid: 'nobody' })],
    ['an expiry of 6 s ago', 'expired', () => issuer.sign('RS256', { exp: now() - 6 })],
    ['no expiry', 'claims', () => issuer.sign('RS256', { exp: undefined })],
    ['a start in 6 s', 'not_yet_valid', () => issuer.sign('RS256', { nbf: now() + 6 })],
    ['no client', 'claims', () => issuer.sign('RS256', { client_id: undefined })],
    ['a binding that is null', 'claims', () => issuer.sign('RS256', { cnf: null })],
    ['a binding that we cannot prove', 'claims', () => issuer.sign('RS256', { cnf: { 'x5t#S256': 'a', jkt: 'b' } })],
    ['a tenant that is a number', 'claims', () => issuer.sign('RS256', { org: 42 })],
    ['an empty tenant', 'claims', () => issuer.sign('RS256', { org: '' })],
    ['the tenant of a client that has none', 'claims', () => issuer.sign('RS256', { org: 'client:another' })],
    ['NUL in the tenant', 'claims', () => issuer.sign('RS256', { org: 'a\0' })],
    ['a lone surrogate in the tenant', 'claims', () => issuer.sign('RS256', { org: 'a\ud800' })],
    ['a tenant of 256 characters', 'claims', () => issuer.sign('RS256', { org: 'x'.repeat(256) })],
    ['a client that is a number', 'claims', () => issuer.sign('RS256', { client_id: 42 })],
    ['rubbish', 'malformed', async () => 'rubbish'],
    ['three parts of rubbish', 'malformed', async () => 'a.b.c'],
  ])('refuses %s with 401 INVALID_TOKEN', async (_, reason, token) => {
    stopClock(); // what starts in 6 s is good in the next second
    const before = await failures(reason);
    const { status, headers, body } = await list(await token());
    expect([status, body.error.code]).toEqual([401, 'INVALID_TOKEN']);
    expect(headers.get('www-authenticate')).toMatch(/^Bearer error="invalid_token"/);
    expect(await failures(reason)).toBe(before + 1);
  });

  it.each(['bearer', 'BEARER'])('takes the scheme %s, whose case does not count', async (scheme) => {
    const headers = { authorization: `${scheme} ${await issuer.sign('ES256')}` };
    expect((await api(service.url)('/v1/orders', { headers })).status).toBe(200);
  });

  it.each([undefined, '', 'Basic dXNlcjpwYXNz', 'Bearer', 'token'])(
    'refuses the Authorization %p with 401 UNAUTHORIZED',
    async (authorization) => {
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
      const before = await failures('missing');
      const { status, headers: answered, body } = await api(service.url)('/v1/orders', { headers });
      expect([status, body.error.code]).toEqual([401, 'UNAUTHORIZED']);
      expect(answered.get('www-authenticate')).toBe('Bearer realm="orders"');
      expect(await failures('missing')).toBe(before + 1);
    },
  );

  it('refuses a missing scope with 403 and names it', async () => {
    const token = await issuer.sign('ES256', { scope: 'orders:read' });
    const before = await failures('insufficient_scope');
    const { status, headers, body } = await api(service.url, token)('/v1/orders', { body: {} });
    expect(await failures('insufficient_scope')).toBe(before + 1);
    expect([status, body.error.code]).toEqual([403, 'INSUFFICIENT_SCOPE']);
    expect(body.error.details).toEqual([{ field: 'scope', message: 'orders:write' }]);
    expect(headers.get('www-authenticate')).toBe('Bearer error="insufficient_scope", scope="orders:write"');
    expect((await list(await issuer.sign('ES256', { scope: '' }))).status).toBe(403);
    expect((await list(await issuer.sign('ES256', { scope: 'orders:readonly' }))).status).toBe(403);
    expect((await list(await issuer.sign('ES256', { scope: undefined }))).status).toBe(403);
  });

  it('asks for the keys once, and once more for unknown ones, not once per token', async () => {
    skipCooldown();
    const before = issuer.jwksRequests;
    await Promise.all(
      Array.from({ length: 50 }, async (_, i) => list(await issuer.sign('RS256', {}, { kid: `k${i}` }))),
    );
    expect(issuer.jwksRequests - before).toBe(1);
  });

  it('asks a provider that fails no more often than one that answers', async () => {
    skipCooldown();
    let asked = 0;
    issuer.answers[DISCOVERY] = (res) => {
      asked += 1;
      res.writeHead(503).end();
    };
    try {
      for (let i = 0; i < 50; i += 1) {
        expect((await list(await issuer.sign('RS256', {}, { kid: `down-${i}` }))).status).toBe(401);
      }
    } finally {
      delete issuer.answers[DISCOVERY];
    }
    expect(asked).toBe(1);
  });

  it('are verified once, and known from then on', async () => {
    const verifier = service.app.get(AccessTokenVerifier);
    const token = await issuer.sign('ES256', { org: 'a-tenant' });
    const cacheRequests = (outcome: string) => metric(service.url, `token_cache_requests_total{outcome="${outcome}"}`);
    const [hits, misses] = [await cacheRequests('hit'), await cacheRequests('miss')];
    expect((await list(token)).status).toBe(200);
    const principal = verifier.recall(token);
    expect(principal).toMatchObject({ clientId: 'a-client', tenantId: 'a-tenant' });
    expect(Object.isFrozen(principal)).toBe(true);
    for (let i = 0; i < 2; i += 1) expect((await list(token)).status).toBe(200);
    expect(verifier.recall(token)).toBe(principal);
    expect([await cacheRequests('hit'), await cacheRequests('miss')]).toEqual([hits + 4, misses + 1]); // two of them here
  });

  it('are not known before they were verified, nor after they were refused', async () => {
    const verifier = service.app.get(AccessTokenVerifier);
    const token = await issuer.sign('ES256', { aud: 'others' });
    for (let i = 0; i < 2; i += 1) {
      expect(verifier.recall(token)).toBeUndefined();
      expect((await list(token)).status).toBe(401);
    }
  });

  it('that are known end with their expiry', async () => {
    stopClock();
    const exp = now() + 60;
    const token = await issuer.sign('ES256', { exp });
    expect((await list(token)).status).toBe(200);
    const before = await failures('expired');
    jest.setSystemTime((exp + 5) * 1_000 - 1);
    expect((await list(token)).status).toBe(200);
    jest.setSystemTime((exp + 5) * 1_000);
    expect((await list(token)).status).toBe(401);
    expect(await failures('expired')).toBe(before + 1);
  });

  it('with a typ of any kind are accepted', async () => {
    for (const typ of ['JWT', null]) expect((await list(await issuer.sign('ES256', {}, { typ }))).status).toBe(200);
  });
});

describe('OIDC_SCOPE_CLAIM', () => {
  it('names the claim that has the scopes, and then no other has', async () => {
    const issuer = await TokenIssuer.start();
    const service = await startService({
      OIDC_ISSUER: issuer.url,
      OIDC_AUDIENCE: 'orders',
      OIDC_SCOPE_CLAIM: 'roles',
    });
    try {
      const statusWith = async (claims: JWTPayload) =>
        (await api(service.url, await issuer.sign('ES256', { scope: undefined, ...claims }))('/v1/orders')).status;
      expect(await statusWith({ roles: ['orders:read'] })).toBe(200);
      expect(await statusWith({ roles: 'audit:read orders:read' })).toBe(200);
      expect(await statusWith({ roles: ['orders:write'], scope: 'orders:read', scp: ['orders:read'] })).toBe(403);
      expect(await statusWith({ roles: { 'orders:read': true } })).toBe(403);
    } finally {
      await service.stop();
      await issuer.stop();
    }
  });
});

describe('OIDC_REQUIRE_AT_JWT', () => {
  const secret = 'a-shared-secret-of-at-least-32-characters';
  let issuer: TokenIssuer;
  let service: TestService;

  beforeAll(async () => {
    issuer = await TokenIssuer.start();
    service = await startService({
      OIDC_ISSUER: issuer.url,
      OIDC_AUDIENCE: 'orders',
      OIDC_REQUIRE_AT_JWT: 'true',
      OIDC_SHARED_SECRET: secret,
    });
  });
  afterAll(async () => {
    await service.stop();
    await issuer.stop();
  });

  const bySecret = { key: Buffer.from(secret) };

  it.each(['at+jwt', 'application/at+jwt', 'AT+JWT', 'Application/At+Jwt'])('lets in typ %s', async (typ) => {
    for (const token of [
      await issuer.sign('ES256', {}, { typ }),
      await issuer.sign('HS256', {}, { typ, ...bySecret }),
    ]) {
      expect((await api(service.url, token)('/v1/orders')).status).toBe(200);
    }
  });

  it.each(['JWT', 'jwt', 'at-jwt', 'at+jwt2', 'text/at+jwt', '', null])('refuses typ %p with 401', async (typ) => {
    const failures = () => metric(service.url, 'auth_failures_total{reason="token_type"}');
    const before = await failures();
    for (const token of [
      await issuer.sign('ES256', {}, { typ }),
      await issuer.sign('HS256', {}, { typ, ...bySecret }),
    ]) {
      const { status, body } = await api(service.url, token)('/v1/orders');
      expect([status, body.error.code]).toEqual([401, 'INVALID_TOKEN']);
    }
    expect(await failures()).toBe(before + 2);
  });
});

describe('The keys of the identity provider', () => {
  /** So short that they are fetched anew each second. */
  const SOON = { OIDC_JWKS_STALE_MAX_MINUTES: '0.05' };
  let issuer: TokenIssuer;
  let service: TestService;

  const start = async (env: NodeJS.ProcessEnv = {}) => {
    service = await startService({ OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: 'orders', ...env });
  };
  const statusOf = async (token: string) => (await apiOnce(service.url, token)('/v1/orders')).status;
  const recall = (token: string) => service.app.get(AccessTokenVerifier).recall(token);
  const sign = (kid: string) => issuer.sign('ES256', {}, { kid });
  const isUp = async () => (await statusOf(await issuer.sign('ES256'))) === 200;

  beforeEach(async () => {
    issuer = await TokenIssuer.start();
  });
  afterEach(async () => {
    await service.stop();
    await issuer.stop();
  });

  it('rotate without a failed request, also right after the start', async () => {
    await start();
    await until('the first keys', isUp);
    issuer.keys['next'] = ecKeys();
    const [byOld, byNext] = [await issuer.sign('ES256'), await sign('next')];
    const statuses = await Promise.all(Array.from({ length: 50 }, (_, i) => statusOf(i % 2 ? byNext : byOld)));
    expect(new Set(statuses)).toEqual(new Set([200]));
    expect(issuer.jwksRequests).toBe(2);
  });

  it('are asked for once per cooldown, however many unknown ones are named', async () => {
    await start();
    await until('the first keys', isUp);
    const verifier = service.app.get(AccessTokenVerifier);
    const [, claims, signature] = (await issuer.sign('ES256')).split('.');
    let sent = 0;
    const refusals = async (count: number) => {
      const reasons: unknown[] = [];
      while (reasons.length < count) {
        const batch = Array.from({ length: 100 }, () => part({ alg: 'ES256', kid: `unknown-${(sent += 1)}` }));
        const verified = batch.map((header) => verifier.verify(`${header}.${claims}.${signature}`));
        for (const result of await Promise.allSettled(verified)) {
          reasons.push(result.status === 'rejected' && result.reason.reason);
        }
      }
      return new Set(reasons);
    };
    expect(await refusals(2_000)).toEqual(new Set(['unknown_key']));
    expect(issuer.jwksRequests).toBe(2);
    skipCooldown();
    expect(await refusals(1_000)).toEqual(new Set(['unknown_key']));
    expect(issuer.jwksRequests).toBe(3);
    expect(await isUp()).toBe(true);
  });

  it('are asked for once more when the cooldown is over, if an unknown one was named in it', async () => {
    await start();
    await until('the first keys', isUp);
    expect(await statusOf(await sign('unknown'))).toBe(401);
    expect(issuer.jwksRequests).toBe(2);
    issuer.keys['late'] = ecKeys();
    const late = await sign('late');
    // However long the call takes, it is within the cooldown of 10 s.
    const clock = jest.spyOn(performance, 'now').mockReturnValue(performance.now() + 9_000);
    expect(await statusOf(late)).toBe(401);
    clock.mockRestore();
    skip(9_000);
    await until('the end of the cooldown', async () => (await statusOf(late)) === 200);
    expect(issuer.jwksRequests).toBe(3);
  });

  it('that are withdrawn or replaced end the tokens that are known by them, and no others', async () => {
    issuer.keys['withdrawn'] = ecKeys();
    issuer.keys['replaced'] = ecKeys();
    await start(SOON);
    const kept = await issuer.sign('ES256');
    const [withdrawn, replaced] = [await sign('withdrawn'), await sign('replaced')];
    await until('the first keys', isUp);
    for (const token of [kept, withdrawn, replaced]) expect(await statusOf(token)).toBe(200);
    delete issuer.keys['withdrawn'];
    issuer.keys['replaced'] = ecKeys();
    const forgotten = () => [withdrawn, replaced].every((token) => recall(token) === undefined);
    await until('their end', forgotten);
    expect(recall(kept)).toBeDefined();
    for (const token of [withdrawn, replaced]) expect(await statusOf(token)).toBe(401);
    expect(await statusOf(await sign('replaced'))).toBe(200);
  });

  it('are trusted until OIDC_JWKS_STALE_MAX_MINUTES have passed, and again as soon as the provider is back', async () => {
    await start(SOON);
    await until('the first keys', isUp);
    const token = await issuer.sign('ES256');
    expect(await statusOf(token)).toBe(200);
    issuer.isDown = true;
    await until('the end of trust', () => recall(token) === undefined);
    for (const refused of [token, await issuer.sign('ES256'), await sign('unknown')]) {
      const { status, headers, body } = await apiOnce(service.url, refused)('/v1/orders');
      expect([status, body.error.code]).toEqual([503, 'SERVICE_UNAVAILABLE']);
      expect(headers.get('retry-after')).toBe('1');
    }
    issuer.isDown = false;
    await until('the way back', async () => (await statusOf(token)) === 200);
  });

  it('are trusted for 24 hours by default', async () => {
    await start();
    await until('the first keys', isUp);
    issuer.isDown = true;
    const identityProvider = async () => (await api(service.url)('/health/ready')).body.details['identity-provider'];
    expect(await identityProvider()).toMatchObject({ status: 'up' });
    expect(await statusOf(await sign('unknown'))).toBe(401);
    expect(await identityProvider()).toMatchObject({ status: 'degraded' });
    skip(24 * 3_600_000 - 60_000);
    expect(await statusOf(await issuer.sign('ES256'))).toBe(200);
    skip(60_000);
    expect(await statusOf(await issuer.sign('ES256'))).toBe(503);
  });

  it('leave calls with a known one their place, however many wait for a silent provider to say which are unknown', async () => {
    await start();
    await until('the first keys', isUp);
    const known = await issuer.sign('ES256');
    for (const path of [DISCOVERY, '/keys']) issuer.answers[path] = () => {};
    // It is silent for as long as it takes to ask: once the fetch is given up, who comes later is 401.
    const timeout = jest.spyOn(AbortSignal, 'timeout').mockReturnValue(new AbortController().signal);
    const unknown = await Promise.all(Array.from({ length: 500 }, (_, n) => sign(`unknown-${n}`)));
    const refused = unknown.map(statusOf);
    await delay(500);
    expect(await statusOf(known)).toBe(200);
    expect(new Set(await Promise.all(refused))).toEqual(new Set([503]));
    timeout.mockRestore();
  });

  it('that a silent provider has never given are 503 within 2 s', async () => {
    issuer.answers[DISCOVERY] = () => {};
    await start();
    const began = performance.now();
    expect(await statusOf(await sign('ES256'))).toBe(503);
    // The fetch is given up after 5 s, the request after 1.5 s; the rest is for a busy machine.
    expect(performance.now() - began).toBeLessThan(4_000);
  });

  it('are followed to where discovery says that they have moved', async () => {
    await start();
    await until('the first keys', isUp);
    issuer.keysPath = '/moved';
    issuer.answers['/keys'] = (res) => res.writeHead(410).end();
    issuer.keys['next'] = ecKeys();
    expect(await statusOf(await sign('next'))).toBe(200);
    expect(await isUp()).toBe(true);
  });
});

describe('The keys at hand go on', () => {
  let issuer: TokenIssuer;
  let service: TestService;

  beforeAll(async () => {
    issuer = await TokenIssuer.start();
    service = await startService({ OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: 'orders' });
    await until('the first keys', isUp);
  });
  afterEach(() => {
    for (const path of Object.keys(issuer.answers)) delete issuer.answers[path];
  });
  afterAll(async () => {
    await service.stop();
    await issuer.stop();
  });

  const statusOf = async (token: string) => (await apiOnce(service.url, token)('/v1/orders')).status;
  const isUp = async () => (await statusOf(await issuer.sign('ES256'))) === 200;
  const failures = () => metric(service.url, 'jwks_fetches_total{outcome="failure"}');
  /** Its key is asked for at the provider, since the last cooldown is over. */
  const signByUnknown = () => {
    skipCooldown();
    return issuer.sign('ES256', {}, { kid: 'unknown' });
  };
  const elsewhere = (name: string) => (res: ServerResponse) =>
    json({ issuer: name, jwks_uri: `${issuer.url}/elsewhere`, keys: [foreign] })(res);
  const json = (body: unknown) => (res: ServerResponse) => res.writeHead(200).end(JSON.stringify(body));
  const weak = generateKeyPairSync('rsa', { modulusLength: 1_024 }).publicKey.export({ format: 'jwk' });
  const secret = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  /** Good in itself: whoever took it would know no other. */
  const foreign = { ...ecKeys().publicKey.export({ format: 'jwk' }), kid: 'foreign' };

  it.each<[string, string, (res: ServerResponse) => void]>([
    ['an error', '/keys', (res) => res.writeHead(500).end()],
    ['HTML', '/keys', (res) => res.writeHead(200, { 'content-type': 'text/html' }).end('<html></html>')],
    ['nothing', '/keys', (res) => res.writeHead(200).end()],
    ['204', '/keys', (res) => res.writeHead(204).end()],
    ['an empty set', '/keys', json({ keys: [] })],
    ['keys that are no array', '/keys', json({ keys: 'all' })],
    ['keys that are no objects', '/keys', json({ keys: [1, null] })],
    ['keys of the wrong types', '/keys', json({ keys: [{ kty: 'RSA', n: 1, e: {} }] })],
    ['keys that no token may use', '/keys', json({ keys: [weak, secret, { kty: 'oct', k: 'c2VjcmV0' }] })],
    ['more keys than a provider has', '/keys', json({ keys: Array.from({ length: 101 }, () => foreign) })],
    ['a huge body', '/keys', json({ keys: [foreign], filler: 'x'.repeat(300_000) })],
    ['a redirect', '/keys', (res) => res.writeHead(302, { location: '/elsewhere' }).end()],
    ['a connection that breaks', '/keys', (res) => res.destroy()],
    ['discovery of another issuer', DISCOVERY, elsewhere('https://evil.example')],
    ['discovery without keys', DISCOVERY, json({ issuer: 'x' })],
    ['discovery that is redirected', DISCOVERY, (res) => res.writeHead(301, { location: '/elsewhere' }).end()],
  ])('when the provider answers with %s', async (_, path, answer) => {
    const before = await failures();
    issuer.answers['/elsewhere'] = elsewhere(issuer.url);
    issuer.answers[path] = answer;
    expect(await statusOf(await signByUnknown())).toBe(401);
    expect(await failures()).toBe(before + 1);
    expect(await isUp()).toBe(true);
  });

  it.each<[string, (res: ServerResponse) => void]>([
    ['does not answer', () => {}],
    ['does not end its answer', (res) => res.writeHead(200).write('{"keys":[')],
  ])('when the provider %s; what cannot be known is 503 and not a wait', async (_, answer) => {
    const before = await failures();
    issuer.answers['/keys'] = answer;
    const token = await signByUnknown();
    const began = performance.now();
    const unknown = statusOf(token);
    expect(await isUp()).toBe(true);
    expect(await unknown).toBe(503);
    expect(performance.now() - began).toBeLessThan(4_000);
    await until('the end of the fetch', async () => (await failures()) === before + 1);
  });
});

describe('Access tokens without key ids', () => {
  it('are tried with every key that fits', async () => {
    const issuer = await TokenIssuer.start({ withKeyIds: false });
    const service = await startService({ OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: 'orders' });
    const status = async (token: string) => (await api(service.url, token)('/v1/orders')).status;
    expect(await status(await issuer.sign('PS256'))).toBe(200);
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    expect(await status(await issuer.sign('PS256', {}, { key: privateKey }))).toBe(401);
    await service.stop();
    await issuer.stop();
  });
});

describe('The identity provider', () => {
  it('being away from the start is 503, not 401, and is over as soon as it is back', async () => {
    const issuer = await TokenIssuer.start();
    issuer.isDown = true;
    const service = await startService({ OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: 'orders' });
    const token = await issuer.sign('RS256');
    const away = await apiOnce(service.url, token)('/v1/orders');
    expect([away.status, away.body.error.code]).toEqual([503, 'SERVICE_UNAVAILABLE']);
    expect(away.headers.get('retry-after')).toBe('1');
    issuer.isDown = false;
    await until('the way back', async () => (await api(service.url, token)('/v1/orders')).status === 200);
    await service.stop();
    await issuer.stop();
  });

  it('of the sandbox issues tokens that are good here', async () => {
    const service = await startService();
    for (const client of ['order-orchestrator', 'reporting', 'other-tenant']) {
      expect((await api(service.url, await fetchToken(client))('/v1/orders')).status).toBe(200);
    }
    const compliance = await api(service.url, await fetchToken('compliance'))('/v1/orders');
    expect(compliance.status).toBe(403);
    await service.stop();
  });
});

describe('OIDC_SHARED_SECRET', () => {
  it('lets HS256 in beside the keys of the provider', async () => {
    const secret = 'a-shared-secret-of-at-least-32-characters';
    const issuer = await TokenIssuer.start();
    const service = await startService({
      OIDC_ISSUER: issuer.url,
      OIDC_AUDIENCE: 'orders',
      OIDC_SHARED_SECRET: secret,
    });
    const status = async (token: string) => (await api(service.url, token)('/v1/orders')).status;
    const token = await issuer.sign('HS256', {}, { key: Buffer.from(secret) });
    expect(await status(token)).toBe(200);
    expect(service.app.get(AccessTokenVerifier).recall(token)).toBeDefined();
    expect(await status(await issuer.sign('HS256', {}, { key: Buffer.from(`${secret}x`) }))).toBe(401);
    expect(await status(await issuer.sign('RS256'))).toBe(200);
    await service.stop();
    await issuer.stop();
  });
});

describe('A route', () => {
  it('that declares neither scopes nor to be public stops the start', async () => {
    @Controller('open')
    class OpenController {
      @Get()
      open() {}
    }
    const start = startService({}, { beside: { controllers: [OpenController] } });
    await expect(start).rejects.toThrow('These routes need @RequireScopes(…) or @Public(): OpenController.open');
  });
});
