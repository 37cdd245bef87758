import { escapedPem, TestCertificates, thumbprintOf } from '../support/certificates';
import { Nginx, hasNginx } from '../support/nginx';
import { startService, type TestService } from '../support/service';
import { tlsCall } from '../support/tls-client';
import { TokenIssuer } from '../support/token-issuer';

(hasNginx() ? describe : describe.skip)('docs/nginx.conf, with the service behind it', () => {
  let issuer: TokenIssuer;
  let certificates: TestCertificates;
  let service: TestService;
  let nginx: Nginx;
  let token: string;
  let boundToken: string;

  beforeAll(async () => {
    issuer = await TokenIssuer.start();
    certificates = await TestCertificates.create();
    token = await issuer.sign('ES256');
    boundToken = await issuer.sign('ES256', { cnf: { 'x5t#S256': thumbprintOf(certificates.client('right')) } });
    service = await startService({
      OIDC_ISSUER: issuer.url,
      OIDC_AUDIENCE: 'orders',
      OIDC_TENANT_CLAIM: undefined,
      MTLS_MODE: 'optional',
      TRUSTED_PROXIES: '127.0.0.1',
      CLIENT_CERT_HEADER: 'X-Client-Cert',
      TLS_CLIENT_CA_FILE: certificates.file('ca.crt'),
    });
    nginx = await startNginx();
  });
  afterAll(async () => {
    await nginx.stop();
    await service.stop();
    await issuer.stop();
    certificates.remove();
  });

  const startNginx = (changes: Record<string, string> = {}) =>
    Nginx.start('docs/nginx.conf', {
      'listen 443': 'listen LISTEN',
      '127.0.0.1:3000': new URL(service.url).host,
      '/etc/nginx/server.crt': certificates.file('server.crt'),
      '/etc/nginx/server.key': certificates.file('server.key'),
      '/etc/nginx/client-ca.crt': certificates.file('ca.crt'),
      ...changes,
    });

  const orders = (call: Parameters<typeof tlsCall>[1], { url } = nginx) =>
    tlsCall(`${url}/v1/orders`, { ca: certificates.ca, ...call });

  it('makes a bound token good with its certificate', async () => {
    const answer = await orders({ token: boundToken, certificate: certificates.client('right') });
    expect(answer.status).toBe(200);
  });

  it.each(['other', undefined])('lets a bound token be refused with the certificate: %s', async (name) => {
    const certificate = name === undefined ? undefined : certificates.client(name);
    const answer = await orders({ token: boundToken, certificate });
    expect([answer.status, answer.body.error.code]).toEqual([401, 'INVALID_TOKEN']);
  });

  it('lets clients through that have no certificate and no bound token', async () => {
    expect((await orders({ token })).status).toBe(200);
  });

  it('takes the header away that a client sends itself', async () => {
    const headers = { 'x-client-cert': escapedPem(certificates.client('right')) };
    expect((await orders({ token: boundToken, headers })).status).toBe(401);
    const certificate = certificates.client('other');
    expect((await orders({ token: boundToken, headers, certificate })).status).toBe(401);
    expect((await orders({ token: boundToken, headers, certificate: certificates.client('right') })).status).toBe(200);
  });

  it('tells certificates of clients apart that share its connections', async () => {
    const calls = Array.from({ length: 40 }, async (_, i) => {
      const name = i % 2 === 0 ? 'right' : 'other';
      const { status } = await orders({ token: boundToken, certificate: certificates.client(name) });
      return [name, status];
    });
    for (const [name, status] of await Promise.all(calls)) expect(status).toBe(name === 'right' ? 200 : 401);
  });

  it.each(['expired', "another CA's"])('refuses a certificate itself that is %s', async (name) => {
    expect((await orders({ token, certificate: certificates.client(name) })).status).toBe(400);
  });

  it('shows neither probes nor metrics', async () => {
    const paths = ['/metrics', '/health/ready', '/Metrics', '/METRICS/', '//metrics', '/Health/ready', '/metrics\\#'];
    for (const path of paths) {
      expect((await tlsCall(nginx.url, { path, ca: certificates.ca })).status).toBe(404);
    }
  });

  it('with optional_no_ca would forward anything, which TLS_CLIENT_CA_FILE still catches', async () => {
    const careless = await startNginx({ 'ssl_verify_client      optional;': 'ssl_verify_client optional_no_ca;' });
    const certificate = certificates.client("another CA's");
    const forged = await issuer.sign('ES256', { cnf: { 'x5t#S256': thumbprintOf(certificate) } });
    const answer = await orders({ token: forged, certificate }, careless);
    expect([answer.status, answer.body.error.code]).toEqual([401, 'UNAUTHORIZED']);
    await careless.stop();
  });
});
