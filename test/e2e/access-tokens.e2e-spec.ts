import { generateKeyPairSync } from 'node:crypto';
import { Controller, Get, Module } from '@nestjs/common';
import { type Answer, api, fetchToken } from '../support/client';
import { startService, type TestService } from '../support/service';
import { TokenIssuer } from '../support/token-issuer';

const now = () => Math.floor(Date.now() / 1_000);

describe('Access tokens', () => {
  let issuer: TokenIssuer;
  let service: TestService;

  beforeAll(async () => {
    issuer = await TokenIssuer.start();
    service = await startService({ OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: 'orders', OIDC_TENANT_CLAIM: 'org' });
  });
  afterAll(async () => {
    await service.stop();
    await issuer.stop();
  });

  const list = (token: string): Promise<Answer> => api(service.url, token)('/v1/orders');
  const failures = async (reason: string): Promise<number> => {
    const { text } = await api(service.url)('/metrics');
    return Number(new RegExp(`auth_failures_total\\{reason="${reason}"\\} (\\d+)`).exec(text)?.[1] ?? 0);
  };

  it.each(['RS256', 'PS256', 'ES256', 'EdDSA'])('accepts %s by the keys found through discovery', async (alg) => {
    expect((await list(await issuer.sign(alg))).status).toBe(200);
  });

  it.each<[string, () => Promise<string>]>([
    ['an audience among several', () => issuer.sign('ES256', { aud: ['other', 'orders'] })],
    ['scopes in scp', () => issuer.sign('ES256', { scope: undefined, scp: ['orders:read'] })],
    ['an expiry of 4 s ago', () => issuer.sign('ES256', { exp: now() - 4 })],
    ['a start in 4 s', () => issuer.sign('ES256', { nbf: now() + 4 })],
    ['azp for the client id', () => issuer.sign('ES256', { client_id: undefined, azp: 'x' })],
    ['sub for the client id', () => issuer.sign('ES256', { client_id: undefined, sub: 'x' })],
  ])('accepts %s', async (_, token) => {
    expect((await list(await token())).status).toBe(200);
  });

  const part = (json: object) => Buffer.from(JSON.stringify(json)).toString('base64url');
  const claims = () => ({ iss: issuer.url, aud: 'orders', client_id: 'c', scope: 'orders:read', exp: now() + 60 });
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const publicKeyAsSecret = () =>
    Buffer.from(issuer.keys['RS256']?.publicKey.export({ type: 'spki', format: 'pem' }) ?? '');

  it.each<[string, string, () => Promise<string>]>([
    ['another issuer', 'issuer', () => issuer.sign('RS256', { iss: 'https://evil.example' })],
    ['another audience', 'audience', () => issuer.sign('RS256', { aud: 'others' })],
    ['no audience', 'audience', () => issuer.sign('RS256', { aud: undefined })],
    ['a signature by another key', 'signature', () => issuer.sign('RS256', {}, { key: stranger })],
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
    ['a start in 10 s', 'not_yet_valid', () => issuer.sign('RS256', { nbf: now() + 10 })],
    ['no client', 'claims', () => issuer.sign('RS256', { client_id: undefined })],
    ['a tenant that is a number', 'claims', () => issuer.sign('RS256', { org: 42 })],
    ['an empty tenant', 'claims', () => issuer.sign('RS256', { org: '' })],
    ['NUL in the tenant', 'claims', () => issuer.sign('RS256', { org: 'a\0' })],
    ['a client that is a number', 'claims', () => issuer.sign('RS256', { client_id: 42 })],
    ['rubbish', 'malformed', async () => 'rubbish'],
    ['three parts of rubbish', 'malformed', async () => 'a.b.c'],
  ])('refuses %s with 401 INVALID_TOKEN', async (_, reason, token) => {
    const before = await failures(reason);
    const { status, headers, body } = await list(await token());
    expect([status, body.error.code]).toEqual([401, 'INVALID_TOKEN']);
    expect(headers.get('www-authenticate')).toMatch(/^Bearer error="invalid_token"/);
    expect(await failures(reason)).toBe(before + 1);
  });

  it.each([undefined, '', 'Basic dXNlcjpwYXNz', 'Bearer', 'token'])(
    'refuses the Authorization %p with 401 UNAUTHORIZED',
    async (authorization) => {
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
      const { status, headers: answered, body } = await api(service.url)('/v1/orders', { headers });
      expect([status, body.error.code]).toEqual([401, 'UNAUTHORIZED']);
      expect(answered.get('www-authenticate')).toBe('Bearer realm="orders"');
    },
  );

  it('refuses a missing scope with 403 and names it', async () => {
    const token = await issuer.sign('ES256', { scope: 'orders:read' });
    const { status, headers, body } = await api(service.url, token)('/v1/orders', { body: {} });
    expect([status, body.error.code]).toEqual([403, 'INSUFFICIENT_SCOPE']);
    expect(body.error.details).toEqual([{ field: 'scope', message: 'orders:write' }]);
    expect(headers.get('www-authenticate')).toBe('Bearer error="insufficient_scope", scope="orders:write"');
    expect((await list(await issuer.sign('ES256', { scope: '' }))).status).toBe(403);
    expect((await list(await issuer.sign('ES256', { scope: 'orders:readonly' }))).status).toBe(403);
    expect((await list(await issuer.sign('ES256', { scope: undefined }))).status).toBe(403);
  });

  it('asks for the keys once, and once more for unknown ones, not once per token', async () => {
    await Promise.all(
      Array.from({ length: 50 }, async (_, i) => list(await issuer.sign('RS256', {}, { kid: `k${i}` }))),
    );
    expect(issuer.jwksRequests).toBeLessThanOrEqual(2);
  });

  it('asks a provider that fails no more often than one that answers', async () => {
    issuer.isDown = true;
    const before = issuer.jwksRequests;
    for (let i = 0; i < 50; i += 1) {
      expect((await list(await issuer.sign('RS256', {}, { kid: `down-${i}` }))).status).toBe(401);
    }
    expect(issuer.jwksRequests - before).toBeLessThanOrEqual(1);
    issuer.isDown = false;
  });

  it('goes on with the keys that it knows while the provider is away', async () => {
    issuer.isDown = true;
    expect((await list(await issuer.sign('ES256'))).status).toBe(200);
    issuer.isDown = false;
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
    const away = await api(service.url, token)('/v1/orders');
    expect([away.status, away.body.error.code]).toEqual([503, 'SERVICE_UNAVAILABLE']);
    expect(away.headers.get('retry-after')).toBe('1');
    issuer.isDown = false;
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    expect((await api(service.url, token)('/v1/orders')).status).toBe(200);
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
    expect(await status(await issuer.sign('HS256', {}, { key: Buffer.from(secret) }))).toBe(200);
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
    const start = startService({}, (appModule) => {
      @Module({ imports: [appModule as never], controllers: [OpenController] })
      class WithOpenRoute {}
      return WithOpenRoute;
    });
    await expect(start).rejects.toThrow('These routes need @RequireScopes(…) or @Public(): OpenController.open');
  });
});
