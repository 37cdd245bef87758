import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { decodeJwt } from 'jose';
import { CertificateAuthority, type IssuedCertificate } from '../../apps/sandbox/src/certificate-authority';
import { certificateFiles, writeCertificates } from '../../apps/sandbox/src/certificates';
import { startIdentityProvider } from '../../apps/sandbox/src/identity-provider';
import { CLIENTS } from '../../apps/sandbox/src/settings';
import { thumbprintOf } from '../support/certificates';
import { fetchToken } from '../support/client';
import { startService, type TestService } from '../support/service';
import { tlsCall } from '../support/tls-client';

describe("The sandbox's identity provider, with certificates", () => {
  const certsDir = mkdtempSync(path.join(tmpdir(), 'order-certs-'));
  let provider: Awaited<ReturnType<typeof startIdentityProvider>>;
  let service: TestService;
  let ca: string;

  beforeAll(async () => {
    await writeCertificates(certsDir);
    provider = await startIdentityProvider(0, { port: 0, certsDir });
    const [authority, server] = ['ca', 'server'].map((name) => certificateFiles(certsDir, name));
    ca = readFileSync(authority?.cert ?? '', 'utf8');
    service = await startService({
      OIDC_ISSUER: provider.url,
      MTLS_MODE: 'optional',
      MTLS_CLIENT_NAME: 'required',
      TLS_CERT_FILE: server?.cert,
      TLS_KEY_FILE: server?.key,
      TLS_CLIENT_CA_FILE: authority?.cert,
    });
  });
  afterAll(async () => {
    await service.stop();
    await provider.stop();
    rmSync(certsDir, { recursive: true });
  });

  const certificateOf = (client: string): IssuedCertificate => {
    const { cert, key } = certificateFiles(certsDir, client);
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  };
  const askForToken = (clientId: string, certificate?: IssuedCertificate) =>
    tlsCall(`${provider.mtlsUrl}/token`, {
      ca,
      certificate,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ grant_type: 'client_credentials', client_id: clientId }).toString(),
    });
  const orders = async (token: string, certificate?: IssuedCertificate) =>
    (await tlsCall(`${service.url}/v1/orders`, { token, certificate, ca })).status;

  it('issues a token that is good with the certificate that it was asked for with, and with no other', async () => {
    const certificate = certificateOf('order-orchestrator');
    const { status, body } = await askForToken('order-orchestrator', certificate);
    expect(status).toBe(200);
    const claims = decodeJwt(body.access_token);
    expect(claims).toMatchObject({
      client_id: 'order-orchestrator',
      tenant: 'acme',
      scope: CLIENTS[0]?.scope,
    });
    expect(claims['cnf']).toEqual({ 'x5t#S256': thumbprintOf(certificate) });
    expect(await orders(body.access_token, certificate)).toBe(200);
    expect(await orders(body.access_token, certificateOf('reporting'))).toBe(401);
    expect(await orders(body.access_token)).toBe(401);
  });

  it.each<[string, () => Promise<IssuedCertificate | undefined>]>([
    ['without a certificate', async () => undefined],
    ['with the certificate of another client', async () => certificateOf('reporting')],
    [
      'with its name in a certificate of another CA',
      async () => (await CertificateAuthority.create('x')).issue({ commonName: 'order-orchestrator', usage: 'client' }),
    ],
  ])('issues nothing to a client %s', async (_, certificate) => {
    const { status, body } = await askForToken('order-orchestrator', await certificate());
    expect([status, body.error]).toEqual([401, 'invalid_client']);
  });

  it('issues tokens for secrets as ever, which are bound to nothing', async () => {
    const token = await fetchToken('order-orchestrator', provider.url);
    expect(decodeJwt(token)['cnf']).toBeUndefined();
    expect(await orders(token)).toBe(200);
    expect(await orders(token, certificateOf('order-orchestrator'))).toBe(200);
    expect(await orders(token, certificateOf('reporting'))).toBe(401); // MTLS_CLIENT_NAME
  });

  it('says in its discovery document where certificates are asked for', async () => {
    const response = await fetch(`${provider.url}/.well-known/openid-configuration`);
    expect(await response.json()).toMatchObject({
      issuer: provider.url,
      token_endpoint: `${provider.url}/token`,
      mtls_endpoint_aliases: { token_endpoint: `${provider.mtlsUrl}/token` },
      tls_client_certificate_bound_access_tokens: true,
    });
  });
});
