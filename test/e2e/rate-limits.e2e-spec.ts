import { type Answer, type Api, anOrder, api, fetchToken } from '../support/client';
import { startService, type TestService } from '../support/service';
import { TokenIssuer } from '../support/token-issuer';
import { until } from '../support/until';

const QUOTA = 3;

const limitsOf = ({ headers }: Answer) => ({
  policy: headers.get('ratelimit-policy'),
  limit: headers.get('ratelimit'),
  retryAfter: headers.get('retry-after'),
});

/** One after the other. */
async function inTurn(times: number, ask: () => Promise<Answer>): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (let n = 0; n < times; n += 1) answers.push(await ask());
  return answers;
}

const statuses = (answers: Answer[]) => answers.map(({ status }) => status);

describe('Rate limits', () => {
  let service: TestService;
  let issuer: TokenIssuer;
  let clients = 0;
  const as = async (claims: Record<string, unknown> = {}): Promise<Api> => {
    clients += 1;
    return api(service.url, await issuer.sign('ES256', { client_id: `client-${clients}`, ...claims }));
  };

  beforeAll(async () => {
    issuer = await TokenIssuer.start();
    service = await startService({
      OIDC_ISSUER: issuer.url,
      OIDC_AUDIENCE: 'orders',
      RATE_LIMIT_PER_MINUTE: String(QUOTA),
      RATE_LIMIT_OVERRIDES: 'big=5,free=0',
      RATE_LIMIT_FAILED_AUTH_PER_MINUTE: '4',
    });
  });
  afterAll(async () => {
    await service.stop();
    await issuer.stop();
  });

  describe('of a client', () => {
    it('are told with each answer, and refuse the call after the last', async () => {
      const call = await as();
      const answers = [
        await call('/v1/orders', { body: anOrder() }),
        await call('/v1/orders'),
        await call('/v1/orders/ord_x'),
        await call('/v1/orders'),
      ];
      expect(statuses(answers)).toEqual([201, 200, 404, 429]);
      const told = answers.map(limitsOf);
      for (const { policy } of told) expect(policy).toBe('"client";q=3;w=60');
      const remaining = told.map(({ limit }) => /^"client";r=(\d);t=(60|59|5\d)$/.exec(limit ?? '')?.[1]);
      expect(remaining).toEqual(['2', '1', '0', '0']);
      expect(told.slice(0, 3).map(({ retryAfter }) => retryAfter)).toEqual([null, null, null]);
      expect(told[3]?.limit).toBe(`"client";r=0;t=${told[3]?.retryAfter}`);
      expect(answers[3]?.body.error).toMatchObject({ code: 'RATE_LIMITED', correlationId: expect.any(String) });
    });

    it('leave their refusals in the audit trail', async () => {
      const call = await as({ client_id: 'recorded' });
      await inTurn(QUOTA + 1, () => call('/v1/orders'));
      const recorded = await until('the rows of the refusals', async () => {
        const rows = await service.database.query(
          `SELECT action, outcome, status_code, error_code FROM audit_events WHERE client_id = 'recorded'`,
        );
        return rows.length > 0 && rows;
      });
      const refusal = { action: 'order.list', outcome: 'refused', status_code: 429, error_code: 'RATE_LIMITED' };
      expect(recorded).toEqual([refusal]);
    });

    it('are told in problem details too', async () => {
      const call = await as();
      const [, , , refused] = await inTurn(4, () =>
        call('/v1/orders', { headers: { accept: 'application/problem+json' } }),
      );
      expect(refused?.body).toMatchObject({ status: 429, code: 'RATE_LIMITED', title: 'Too Many Requests' });
      expect(refused && limitsOf(refused)).toEqual({
        policy: '"client";q=3;w=60',
        limit: expect.stringMatching(/^"client";r=0;t=\d+$/),
        retryAfter: expect.stringMatching(/^(60|5\d)$/),
      });
    });

    it('hold until the second that Retry-After says, and not a second longer', async () => {
      const call = await as();
      const begin = Date.now();
      const now = jest.spyOn(Date, 'now');
      const callAfter = (seconds: number) => {
        now.mockReturnValue(begin + seconds * 1_000);
        return call('/v1/orders');
      };
      try {
        expect(limitsOf(await callAfter(0)).limit).toBe('"client";r=2;t=60');
        expect(limitsOf(await callAfter(10)).limit).toBe('"client";r=1;t=50');
        expect(limitsOf(await callAfter(10.001)).limit).toBe('"client";r=0;t=50');
        expect(limitsOf(await callAfter(10.5)).retryAfter).toBe('50');
        expect(limitsOf(await callAfter(59.5)).retryAfter).toBe('1');
        const admitted = await callAfter(60.5);
        expect([admitted.status, limitsOf(admitted).limit]).toEqual([200, '"client";r=2;t=60']);
      } finally {
        now.mockRestore();
      }
    });

    it('count replays and calls without the scope', async () => {
      const call = await as({ scope: 'orders:write' });
      const order = anOrder();
      const answers = [
        await call('/v1/orders', { body: order }),
        await call('/v1/orders', { body: order }),
        await call('/v1/orders'),
        await call('/v1/orders', { body: order }),
      ];
      expect(answers[1]?.headers.get('idempotent-replayed')).toBe('true');
      expect(statuses(answers)).toEqual([201, 201, 403, 429]);
    });

    it('refuse before the body is read', async () => {
      const call = await as();
      const answers = await inTurn(QUOTA + 1, () => call('/v1/orders', { body: '{"a":' }));
      expect(statuses(answers)).toEqual([400, 400, 400, 429]);
    });

    it('are another client’s own, and another tenant’s own under the same client id', async () => {
      const first = await as({ client_id: 'same', tenant: 'one' });
      expect(statuses(await inTurn(QUOTA + 1, () => first('/v1/orders')))).toEqual([200, 200, 200, 429]);
      const others = [await as({ client_id: 'other', tenant: 'one' }), await as({ client_id: 'same', tenant: 'two' })];
      for (const call of others) expect((await call('/v1/orders')).status).toBe(200);
    });

    it('are what RATE_LIMIT_OVERRIDES says for a client', async () => {
      const big = await as({ client_id: 'big' });
      expect(statuses(await inTurn(6, () => big('/v1/orders')))).toEqual([200, 200, 200, 200, 200, 429]);
      const free = await as({ client_id: 'free' });
      const answers = await inTurn(10, () => free('/v1/orders'));
      expect(new Set(statuses(answers))).toEqual(new Set([200]));
      expect(answers.map(limitsOf)).toContainEqual({ policy: null, limit: null, retryAfter: null });
    });

    it('leave public routes alone', async () => {
      const call = api(service.url);
      for (const path of ['/health/live', '/health/ready', '/metrics', '/openapi.json', '/docs']) {
        const answers = await inTurn(QUOTA + 3, () => call(path));
        expect(new Set(statuses(answers))).toEqual(new Set([200]));
        expect(answers.at(-1)?.headers.get('ratelimit')).toBeNull();
      }
    });

    it('are counted when they refuse, without naming anyone', async () => {
      const call = await as();
      await inTurn(QUOTA + 1, () => call('/v1/orders'));
      const { text } = await api(service.url)('/metrics');
      const lines = text.split('\n').filter((line) => line.startsWith('rate_limited_total'));
      expect(lines).toEqual([
        'rate_limited_total{limit="address"} 0',
        expect.stringMatching(/^rate_limited_total\{limit="client"\} [1-9]\d*$/),
      ]);
    });
  });

  describe('of an address', () => {
    it('refuse it after so many bad tokens before the next is verified, but not tokens that are known to be good', async () => {
      const good = await as();
      const unsigned = api(service.url, `${(await issuer.sign('ES256')).slice(0, -6)}AAAAAA`);
      const keysAsked = issuer.jwksRequests;

      expect(statuses(await inTurn(20, () => api(service.url)('/v1/orders')))).toEqual(Array(20).fill(401));
      expect(statuses(await inTurn(3, () => unsigned('/v1/orders')))).toEqual([401, 401, 401]);
      expect((await good('/v1/orders')).status).toBe(200);
      expect((await unsigned('/v1/orders')).status).toBe(401);

      // An unknown key would make the service ask for the keys, if it looked at the token at all.
      const unknown = api(service.url, await issuer.sign('ES256', {}, { kid: 'nobody' }));
      const refused = await unknown('/v1/orders');
      expect([refused.status, refused.body.error.code]).toEqual([429, 'RATE_LIMITED']);
      expect(limitsOf(refused)).toEqual({
        policy: '"address";q=4;w=60',
        limit: `"address";r=0;t=${refused.headers.get('retry-after')}`,
        retryAfter: expect.stringMatching(/^(60|5\d)$/),
      });
      expect(issuer.jwksRequests).toBe(keysAsked);
      expect((await good('/v1/orders')).status).toBe(200);
      expect((await (await as())('/v1/orders')).status).toBe(429);
      expect((await api(service.url)('/v1/orders')).status).toBe(401);

      const { text } = await api(service.url)('/metrics');
      expect(text).toContain('rate_limited_total{limit="address"} 2');
    });

    it('refuse a known token that comes without its certificate, as if it were bad', async () => {
      const other = await startService({
        OIDC_ISSUER: issuer.url,
        OIDC_AUDIENCE: 'orders',
        RATE_LIMIT_FAILED_AUTH_PER_MINUTE: '3',
      });
      const bound = api(other.url, await issuer.sign('ES256', { cnf: { 'x5t#S256': 'a-thumbprint' } }));
      expect(statuses(await inTurn(5, () => bound('/v1/orders')))).toEqual([401, 401, 401, 429, 429]);
      await other.stop();
    });

    it('refuse who comes without the certificate that is required, as if its token were bad', async () => {
      const other = await startService({
        OIDC_ISSUER: issuer.url,
        OIDC_AUDIENCE: 'orders',
        MTLS_MODE: 'required',
        TRUSTED_PROXIES: '127.0.0.1',
        CLIENT_CERT_HEADER: 'x-client-cert',
        RATE_LIMIT_FAILED_AUTH_PER_MINUTE: '3',
      });
      const bare = api(other.url, await issuer.sign('ES256'));
      expect(statuses(await inTurn(5, () => bare('/v1/orders')))).toEqual([401, 401, 401, 429, 429]);
      await other.stop();
    });

    it('do not shut out who comes with a key that is not known yet', async () => {
      const other = await startService({
        OIDC_ISSUER: issuer.url,
        OIDC_AUDIENCE: 'orders',
        RATE_LIMIT_FAILED_AUTH_PER_MINUTE: '3',
      });
      const early = api(other.url, await issuer.sign('ES256', {}, { kid: 'early' }));
      expect(statuses(await inTurn(5, () => early('/v1/orders')))).toEqual(Array(5).fill(401));
      await other.stop();
    });
  });
});

describe('Rate limits at 0', () => {
  it('are off', async () => {
    const service = await startService({ RATE_LIMIT_PER_MINUTE: '0', RATE_LIMIT_FAILED_AUTH_PER_MINUTE: '0' });
    const call = api(service.url, await fetchToken('reporting'));
    const answers = await inTurn(5, () => call('/v1/orders'));
    expect(new Set(statuses(answers))).toEqual(new Set([200]));
    expect(answers[0]?.headers.get('ratelimit')).toBeNull();
    const bad = await inTurn(5, () => api(service.url, 'a.b.c')('/v1/orders'));
    expect(new Set(statuses(bad))).toEqual(new Set([401]));
    await service.stop();
  });
});
