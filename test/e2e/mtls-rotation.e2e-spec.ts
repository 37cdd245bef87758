import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import promises from 'node:fs/promises';
import https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { Logger } from '@nestjs/common';
import { CertificateAuthority, type IssuedCertificate } from '../../apps/sandbox/src/certificate-authority';
import { anOrder, orderHead } from '../support/client';
import { startService, type TestService } from '../support/service';
import { tlsCall } from '../support/tls-client';
import { TokenIssuer } from '../support/token-issuer';
import { until } from '../support/until';

/** A mounted secret: files behind a symbolic link that is replaced, as Kubernetes does it. */
class MountedSecret {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'order-secret-'));
  private version = 0;

  replace(files: Record<string, string>): void {
    const name = `..${(this.version += 1)}`;
    mkdirSync(path.join(this.directory, name));
    for (const [file, content] of Object.entries(files)) writeFileSync(path.join(this.directory, name, file), content);
    symlinkSync(name, path.join(this.directory, '..next'));
    renameSync(path.join(this.directory, '..next'), path.join(this.directory, '..data'));
    if (this.version > 1) return;
    for (const file of Object.keys(files)) symlinkSync(`..data/${file}`, path.join(this.directory, file));
  }

  file(name: string): string {
    return path.join(this.directory, name);
  }
}

describe('TLS files that change', () => {
  const secret = new MountedSecret();
  let issuer: TokenIssuer;
  let token: string;
  let service: TestService;
  let authority: CertificateAuthority;
  let newAuthority: CertificateAuthority;
  let server: IssuedCertificate;
  let client: IssuedCertificate;
  let newClient: IssuedCertificate;

  const issueServer = () =>
    authority.issue({
      commonName: 'localhost',
      usage: 'server',
      alternativeNames: [{ type: 'ip', value: '127.0.0.1' }],
    });
  const secretOf = ({ cert, key }: IssuedCertificate, ...authorities: CertificateAuthority[]) => ({
    'tls.crt': cert,
    'tls.key': key,
    'ca.crt': authorities.map(({ pem }) => pem.cert).join(''),
  });

  beforeAll(async () => {
    issuer = await TokenIssuer.start();
    token = await issuer.sign('ES256');
    authority = await CertificateAuthority.create('The CA');
    newAuthority = await CertificateAuthority.create('The CA');
    server = await issueServer();
    client = await authority.issue({ commonName: 'a-client', usage: 'client' });
    newClient = await newAuthority.issue({ commonName: 'a-client', usage: 'client' });
    secret.replace(secretOf(server, authority));
    service = await startService({
      OIDC_ISSUER: issuer.url,
      OIDC_AUDIENCE: 'orders',
      OIDC_TENANT_CLAIM: undefined,
      MTLS_MODE: 'required',
      TLS_CERT_FILE: secret.file('tls.crt'),
      TLS_KEY_FILE: secret.file('tls.key'),
      TLS_CLIENT_CA_FILE: secret.file('ca.crt'),
    });
  });
  afterAll(async () => {
    await service.stop();
    await issuer.stop();
    rmSync(secret.directory, { recursive: true });
  });

  const connect = async (): Promise<tls.TLSSocket> => {
    const port = Number(new URL(service.url).port);
    const ca = authority.pem.cert;
    const socket = tls.connect({ host: '127.0.0.1', port, ca, cert: client.cert, key: client.key });
    await once(socket, 'secureConnect');
    return socket;
  };
  const serves = async ({ cert }: IssuedCertificate): Promise<boolean> => {
    const socket = await connect();
    const serial = socket.getPeerX509Certificate()?.toString();
    socket.destroy();
    return serial?.trim() === cert.trim();
  };
  const statusWith = async (certificate: IssuedCertificate, agent?: https.Agent) =>
    (await tlsCall(`${service.url}/v1/orders`, { token, certificate, ca: authority.pem.cert, agent })).status;

  it('are used within seconds, and requests under way go on', async () => {
    const body = JSON.stringify(anOrder());
    const open = await connect();
    open.write(orderHead(token, `Content-Length: ${Buffer.byteLength(body)}`) + body.slice(0, 10));
    expect(await serves(server)).toBe(true);
    server = await issueServer();
    secret.replace(secretOf(server, authority));
    await until('the new certificate', () => serves(server));
    open.write(body.slice(10));
    const [answer] = (await once(open, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 201 /);
    open.destroy();
  });

  it('are not mixed when they change while they are read', async () => {
    const logged = jest.spyOn(Logger.prototype, 'error');
    const next = await issueServer();
    const reads = jest.spyOn(promises, 'readFile').mockImplementationOnce(async (file) => {
      const old = readFileSync(file as string, 'utf8');
      secret.replace(secretOf(next, authority));
      return old;
    });
    await until('the new certificate', () => serves(next));
    reads.mockRestore();
    expect(logged.mock.calls).toEqual([]); // of a certificate and the key of another
    logged.mockRestore();
    server = next;
  });

  it('change nothing while they are wrong', async () => {
    const logged = jest.spyOn(Logger.prototype, 'error');
    const next = await issueServer();
    secret.replace({ ...secretOf(next, newAuthority), 'tls.key': client.key });
    await until('the error', () => logged.mock.calls.length > 0);
    expect(logged.mock.calls[0]?.[0]).toEqual({ faults: ['TLS_KEY_FILE is not the key of TLS_CERT_FILE'] });
    logged.mockRestore();
    expect(await serves(server)).toBe(true);
    expect([await statusWith(client), await statusWith(newClient)]).toEqual([200, 401]);
    server = next;
    secret.replace(secretOf(next, authority));
    await until('the new certificate', () => serves(next));
  });

  it('let clients move from one CA to the next, and shut out the old one on open connections too', async () => {
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
    expect(await statusWith(client, agent)).toBe(200);
    expect([await statusWith(client), await statusWith(newClient)]).toEqual([200, 401]);
    secret.replace(secretOf(server, authority, newAuthority));
    await until('both CAs', async () => (await statusWith(newClient)) === 200);
    expect([await statusWith(client), await statusWith(client, agent)]).toEqual([200, 200]);
    const [connection] = Object.values(agent.freeSockets).flat();
    secret.replace(secretOf(server, newAuthority));
    await until('the new CA alone', async () => (await statusWith(client)) === 401);
    expect(await statusWith(client, agent)).toBe(401);
    expect(connection).toBeDefined();
    expect(Object.values(agent.freeSockets).flat()[0]).toBe(connection);
    expect(await statusWith(newClient)).toBe(200);
    agent.destroy();
  });
});
