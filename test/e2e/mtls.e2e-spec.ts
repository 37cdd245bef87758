import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { Controller, Get, Req } from '@nestjs/common';
import { Public } from '@platform/auth';
import { currentContext } from '@platform/request-context';
import type { Request } from 'express';
import type { IssuedCertificate } from '../../apps/sandbox/src/certificate-authority';
import { byteSequence, escapedPem, TestCertificates, thumbprintOf } from '../support/certificates';
import { type Answer } from '../support/client';
import { startService, type TestService } from '../support/service';
import { tlsCall } from '../support/tls-client';
import { TokenIssuer } from '../support/token-issuer';
import { until } from '../support/until';

const HEADER = 'x-client-cert';

let issuer: TokenIssuer;
let certificates: TestCertificates;
let token: string;
let boundToken: string;

beforeAll(async () => {
  issuer = await TokenIssuer.start();
  certificates = await TestCertificates.create();
  token = await issuer.sign('ES256');
  boundToken = await issuer.sign('ES256', { cnf: { 'x5t#S256': thumbprintOf(certificates.client('right')) } });
});
afterAll(async () => {
  await issuer.stop();
  certificates.remove();
});

const start = (env: NodeJS.ProcessEnv, options?: Parameters<typeof startService>[1]) =>
  startService({ OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: 'orders', OIDC_TENANT_CLAIM: undefined, ...env }, options);

const ways = {
  'own TLS': {
    env: () => certificates.ownTls,
    call: (service: TestService, { path = '/v1/orders', ...call }: Call) =>
      tlsCall(service.url + path, { ...call, ca: certificates.ca }),
  },
  'a trusted proxy': {
    env: () => ({
      TRUSTED_PROXIES: '127.0.0.1,::1',
      CLIENT_CERT_HEADER: HEADER,
      TLS_CLIENT_CA_FILE: certificates.file('ca.crt'),
    }),
    call: (service: TestService, { path = '/v1/orders', certificate, ...call }: Call) =>
      tlsCall(service.url + path, { ...call, ...(certificate && { headers: { [HEADER]: escapedPem(certificate) } }) }),
  },
};

interface Call {
  readonly path?: string;
  readonly method?: string;
  readonly token?: string;
  readonly certificate?: IssuedCertificate;
}

async function failures(call: (call: Call) => Promise<Answer>, reason: string): Promise<number> {
  const { text } = await call({ path: '/metrics' });
  return Number(new RegExp(`auth_failures_total\\{reason="${reason}"\\} (\\d+)`).exec(text)?.[1] ?? 0);
}

const OK = [200, undefined];
const MISSING = [401, 'UNAUTHORIZED', 'certificate_missing'];
const INVALID = [401, 'UNAUTHORIZED', 'certificate_invalid'];
const UNBOUND = [401, 'INVALID_TOKEN', 'certificate_binding'];

const invalid = ['expired', 'not yet valid', "another CA's", "a server's"];

/** Mode, token, certificate (or none), and what comes of them. */
const outcomes: [string, 'plain' | 'bound', string | undefined, (string | number | undefined)[]][] = [
  ['required', 'plain', 'right', OK],
  ['required', 'plain', undefined, MISSING],
  ...invalid.map((name): (typeof outcomes)[number] => ['required', 'plain', name, INVALID]),
  ['required', 'bound', 'right', OK],
  ['required', 'bound', 'other', UNBOUND],
  ['required', 'bound', undefined, MISSING],
  ['optional', 'plain', 'right', OK],
  ['optional', 'plain', undefined, OK],
  ...invalid.map((name): (typeof outcomes)[number] => ['optional', 'plain', name, INVALID]),
  ['optional', 'bound', 'right', OK],
  ['optional', 'bound', 'other', UNBOUND],
  ['optional', 'bound', undefined, UNBOUND],
  ['off', 'plain', 'right', OK],
  ['off', 'plain', undefined, OK],
  ...invalid.map((name): (typeof outcomes)[number] => ['off', 'plain', name, OK]),
  ['off', 'bound', 'right', UNBOUND],
  ['off', 'bound', 'other', UNBOUND],
  ['off', 'bound', undefined, UNBOUND],
];

describe.each(Object.keys(ways) as (keyof typeof ways)[])('Client certificates by %s', (way) => {
  const { env, call: callBy } = ways[way];
  const services = new Map<string, TestService>();

  beforeAll(async () => {
    for (const mode of ['required', 'optional', 'off']) services.set(mode, await start({ ...env(), MTLS_MODE: mode }));
  });
  afterAll(() => Promise.all([...services.values()].map((service) => service.stop())));

  const callTo =
    (mode: string) =>
    (call: Call): Promise<Answer> => {
      const service = services.get(mode);
      if (!service) throw new Error(`There is no service with ${mode}`);
      return callBy(service, call);
    };

  it.each(outcomes)(
    'MTLS_MODE=%s, a %s token, certificate: %s: %j',
    async (mode, kind, name, [status, code, reason]) => {
      const call = callTo(mode);
      const certificate = name === undefined ? undefined : certificates.client(name);
      const before = reason === undefined ? 0 : await failures(call, String(reason));
      const answer = await call({ token: kind === 'bound' ? boundToken : token, certificate });
      expect([answer.status, answer.body.error?.code]).toEqual([status, code]);
      if (status !== 401) return;
      expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer /);
      expect(answer.body.error.correlationId).toBe(answer.headers.get('x-request-id'));
      expect(await failures(call, String(reason))).toBe(before + 1);
    },
  );

  it.each(['/health/live', '/health/ready', '/metrics', '/openapi.json', '/docs'])(
    'answers %s without a certificate, and with one that is not valid',
    async (path) => {
      const call = callTo('required');
      expect((await call({ path })).status).toBe(200);
      expect((await call({ path, certificate: certificates.client('expired') })).status).toBe(200);
    },
  );

  it('says in the audit trail with which certificate a client came', async () => {
    const certificate = certificates.client('right');
    const answer = await callTo('optional')({ path: '/v1/orders/none/cancel', method: 'POST', token, certificate });
    expect(answer.status).toBe(404);
    const [row] = await until('the audit row', async () => {
      const sql = 'SELECT certificate FROM audit_events WHERE request_id = $1';
      const rows = await services.get('optional')?.database.query<object>(sql, [answer.headers.get('x-request-id')]);
      return rows?.length ? rows : undefined;
    });
    expect(row).toEqual({ certificate: thumbprintOf(certificate) });
  });

  it('refuses a certificate without a token', async () => {
    const answer = await callTo('required')({ certificate: certificates.client('right') });
    expect([answer.status, answer.body.error.code]).toEqual([401, 'UNAUTHORIZED']);
  });
});

describe('MTLS_CLIENT_NAME=required', () => {
  let service: TestService;
  beforeAll(async () => {
    service = await start({ ...certificates.ownTls, MTLS_MODE: 'optional', MTLS_CLIENT_NAME: 'required' });
  });
  afterAll(() => service.stop());

  it.each<[string, number, Parameters<typeof certificates.authority.issue>[0]]>([
    ['its common name', 200, { commonName: 'a-client', usage: 'client' }],
    ['a DNS name', 200, { usage: 'client', alternativeNames: [{ type: 'dns', value: 'a-client' }] }],
    ['a URI', 401, { usage: 'client', alternativeNames: [{ type: 'url', value: 'urn:a-client' }] }],
    ['nothing', 401, { usage: 'client' }],
    ['the name of another', 401, { commonName: 'another', usage: 'client' }],
    ['a longer name', 401, { commonName: 'a-client.example', usage: 'client' }],
    ['a mail address', 401, { usage: 'client', alternativeNames: [{ type: 'email', value: 'a-client' }] }],
    [
      'a name of many',
      401,
      { commonName: 'x', usage: 'client', alternativeNames: [{ type: 'dns', value: 'x, DNS:a-client' }] },
    ],
  ])('answers a certificate that names the client in %s with %i', async (_, status, request) => {
    const certificate = await certificates.authority.issue(request);
    const answer = await tlsCall(`${service.url}/v1/orders`, { token, certificate, ca: certificates.ca });
    expect(answer.status).toBe(status);
    if (status === 401) expect(answer.body.error.code).toBe('INVALID_TOKEN');
  });

  it('takes a URI that is the client id', async () => {
    const uri = 'spiffe://example/a-client';
    const alternativeNames = [{ type: 'url', value: uri }] as const;
    const certificate = await certificates.authority.issue({
      usage: 'client',
      alternativeNames: [...alternativeNames],
    });
    const named = await issuer.sign('ES256', { client_id: uri });
    const answer = await tlsCall(`${service.url}/v1/orders`, { token: named, certificate, ca: certificates.ca });
    expect(answer.status).toBe(200);
  });

  it('asks nothing of a client without a certificate', async () => {
    expect((await tlsCall(`${service.url}/v1/orders`, { token, ca: certificates.ca })).status).toBe(200);
  });
});

@Public()
@Controller('seen')
class SeenController {
  @Get()
  see(@Req() { headers, headersDistinct, rawHeaders, ip }: Request) {
    return { headers, headersDistinct, rawHeaders, ip, address: currentContext()?.address };
  }
}

const WITH_SEEN = { beside: { controllers: [SeenController] } };

describe('CLIENT_CERT_HEADER', () => {
  const env = { MTLS_MODE: 'optional', CLIENT_CERT_HEADER: 'X-Client-Cert' };

  describe('from anyone but TRUSTED_PROXIES', () => {
    let service: TestService;
    beforeAll(async () => {
      service = await start({ ...env, TRUSTED_PROXIES: '10.0.0.0/8' }, WITH_SEEN);
    });
    afterAll(() => service.stop());

    it('does not make a bound token good', async () => {
      const headers = { [HEADER]: escapedPem(certificates.client('right')) };
      const answer = await tlsCall(`${service.url}/v1/orders`, { token: boundToken, headers });
      expect([answer.status, answer.body.error.code]).toEqual([401, 'INVALID_TOKEN']);
    });

    it('is no certificate that could be invalid', async () => {
      const headers = { [HEADER]: 'rubbish' };
      expect((await tlsCall(`${service.url}/v1/orders`, { token, headers })).status).toBe(200);
    });

    it('is seen by nothing behind, however it is written, and nor is the address that comes with it', async () => {
      const headers = { 'X-CLIENT-cert': ['canary', 'canary'], 'x-forwarded-for': '192.0.2.1', 'x-other': 'kept' };
      const { text, body } = await tlsCall(`${service.url}/seen`, { headers });
      expect(text).not.toContain('canary');
      expect(text.toLowerCase()).not.toContain(HEADER);
      expect(body.rawHeaders.join(' ')).toContain('x-other kept');
      expect([body.ip, body.address]).toEqual(['127.0.0.1', '127.0.0.1']);
    });
  });

  describe('from a trusted proxy, which alone verifies', () => {
    let service: TestService;
    beforeAll(async () => {
      service = await start({ ...env, MTLS_MODE: 'required', TRUSTED_PROXIES: '127.0.0.0/8' }, WITH_SEEN);
    });
    afterAll(() => service.stop());

    const statusWith = async (value: string | string[]) =>
      (await tlsCall(`${service.url}/v1/orders`, { token: boundToken, headers: { [HEADER]: value } })).status;

    it('is percent-encoded PEM, or a byte sequence of RFC 9440', async () => {
      expect(await statusWith(escapedPem(certificates.client('right')))).toBe(200);
      expect(await statusWith(byteSequence(certificates.client('right')))).toBe(200);
    });

    it.each<[string, () => string | string[]]>([
      ['sent twice', () => [escapedPem(certificates.client('right')), escapedPem(certificates.client('right'))]],
      ['sent once more without a value', () => [escapedPem(certificates.client('right')), '']],
      ['two in one', () => encodeURIComponent(certificates.client('right').cert + certificates.client('other').cert)],
      ['two in one byte sequence', () => byteSequence(certificates.client('right'), certificates.client('other'))],
      ['PEM in a byte sequence', () => `:${Buffer.from(certificates.client('right').cert).toString('base64')}:`],
      ['a list', () => `${byteSequence(certificates.client('right'))}, ${byteSequence(certificates.client('other'))}`],
      ['empty', () => ''],
      ['rubbish', () => 'rubbish'],
      ['not valid percent-encoding', () => '%zz'],
      ['bytes that are no certificate', () => ':AAAA:'],
      ['a private key', () => encodeURIComponent(certificates.client('right').key)],
      ['expired', () => escapedPem(certificates.client('expired'))],
    ])('is refused when it is %s', async (_, value) => expect(await statusWith(value())).toBe(401));

    it('may be of any CA: without TLS_CLIENT_CA_FILE its verification is the proxy’s alone', async () => {
      const certificate = certificates.client("another CA's");
      const bound = await issuer.sign('ES256', { cnf: { 'x5t#S256': thumbprintOf(certificate) } });
      const headers = { [HEADER]: escapedPem(certificate) };
      expect((await tlsCall(`${service.url}/v1/orders`, { token: bound, headers })).status).toBe(200);
    });

    it('comes with the address of the client, behind as many trusted proxies as there are', async () => {
      const headers = { 'x-forwarded-for': '203.0.113.9, 192.0.2.1, 127.0.0.7' };
      const { body } = await tlsCall(`${service.url}/seen`, { headers });
      expect([body.ip, body.address]).toEqual(['192.0.2.1', '192.0.2.1']);
    });
  });

  it.each(['', '::'])('may say with %p that the client has no certificate', async (value) => {
    const service = await start({ ...env, TRUSTED_PROXIES: '127.0.0.0/8' });
    const { status } = await tlsCall(`${service.url}/v1/orders`, { token, headers: { [HEADER]: value } });
    expect(status).toBe(200);
    await service.stop();
  });

  it('does not stand above the handshake of a client that is no proxy', async () => {
    const service = await start({ ...env, ...certificates.ownTls, TRUSTED_PROXIES: '10.0.0.0/8' });
    const status = async (name: string) => {
      const headers = { [HEADER]: escapedPem(certificates.client(name === 'right' ? 'other' : 'right')) };
      const client = { ca: certificates.ca, certificate: certificates.client(name) };
      return (await tlsCall(`${service.url}/v1/orders`, { ...client, token: boundToken, headers })).status;
    };
    expect([await status('right'), await status('other')]).toEqual([200, 401]);
    await service.stop();
  });

  it('stands above the handshake, where a trusted proxy has a certificate of its own', async () => {
    const own = { ...certificates.ownTls, MTLS_MODE: 'required' };
    const service = await start({ ...env, ...own, TRUSTED_PROXIES: '127.0.0.1' });
    const proxy = { ca: certificates.ca, certificate: certificates.client('right') };
    const status = async (headers: Record<string, string>) =>
      (await tlsCall(`${service.url}/v1/orders`, { ...proxy, token: boundToken, headers })).status;
    expect(await status({})).toBe(401);
    expect(await status({ [HEADER]: escapedPem(certificates.client('other')) })).toBe(401);
    expect(await status({ [HEADER]: escapedPem(certificates.client('right')) })).toBe(200);
    await service.stop();
  });
});

describe('Own TLS', () => {
  let service: TestService;
  beforeAll(async () => {
    service = await start({ ...certificates.ownTls, MTLS_MODE: 'required' });
  });
  afterAll(() => service.stop());

  const connect = async (options: tls.ConnectionOptions): Promise<tls.TLSSocket> => {
    const port = Number(new URL(service.url).port);
    const socket = tls.connect({ host: '127.0.0.1', port, ca: certificates.ca, ...options });
    await once(socket, 'secureConnect');
    return socket;
  };

  it('speaks TLS 1.2 and 1.3', async () => {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = await connect({ minVersion: version, maxVersion: version });
      expect(socket.getProtocol()).toBe(version);
      socket.destroy();
    }
  });

  it('refuses what is older', async () => {
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    await expect(connect(old)).rejects.toMatchObject({ code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION' });
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'resumes no session of %s, so that each handshake is verified',
    async (version) => {
      const client = certificates.client('right');
      const options = { cert: client.cert, key: client.key, minVersion: version, maxVersion: version };
      const first = await connect(options);
      let session = first.getSession();
      first.on('session', (ticket) => (session = ticket));
      first.write(`GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n`);
      await once(first, 'data');
      first.destroy();
      const second = await connect({ ...options, session });
      expect(second.isSessionReused()).toBe(false);
      second.destroy();
    },
  );

  it('lets no client renegotiate, perhaps with another certificate', async () => {
    const socket = await connect({ maxVersion: 'TLSv1.2' });
    const outcome = await new Promise<string | undefined>((resolve) => {
      socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(code));
      socket.renegotiate({}, () => resolve('renegotiated'));
    });
    socket.destroy();
    expect(outcome).toBe('ERR_SSL_NO_RENEGOTIATION');
  });

  it('closes a connection that speaks no TLS, and goes on', async () => {
    const socket = net.connect(Number(new URL(service.url).port), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.resume().write('GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(socket, 'close');
    const answer = await tlsCall(`${service.url}/health/live`, { ca: certificates.ca });
    expect(answer.status).toBe(200);
  });

  it('tells when its certificates end', async () => {
    const { text } = await tlsCall(`${service.url}/metrics`, { ca: certificates.ca });
    const end = (name: string) =>
      Number(
        new RegExp(`^tls_certificate_expiry_timestamp_seconds\\{certificate="${name}"\\} (.+)$`, 'm').exec(text)?.[1],
      );
    const now = Date.now() / 1_000;
    expect(Math.round((end('server') - now) / 86_400)).toBe(397);
    expect(Math.round((end('client_ca') - now) / 86_400)).toBe(3_650);
  });

  it.each<[string, () => NodeJS.ProcessEnv, string[]]>([
    [
      'files that are not there',
      () => ({ TLS_CERT_FILE: '/canary', TLS_KEY_FILE: '/canary', TLS_CLIENT_CA_FILE: '/canary' }),
      ['CERT', 'KEY', 'CLIENT_CA'].map((name) => `TLS_${name}_FILE names a file that cannot be read`),
    ],
    [
      'the key of another certificate',
      () => {
        certificates.write('canary.key', certificates.client('right').key);
        return { ...certificates.ownTls, TLS_KEY_FILE: certificates.file('canary.key') };
      },
      ['TLS_KEY_FILE is not the key of TLS_CERT_FILE'],
    ],
  ])('does not start with %s, and names no file', async (_, env, faults) => {
    await expect(start({ ...env(), MTLS_MODE: 'required' })).rejects.toMatchObject({ name: 'ConfigError', faults });
  });
});
