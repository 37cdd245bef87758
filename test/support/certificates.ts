import { hash, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CertificateAuthority, type IssuedCertificate } from '../../apps/sandbox/src/certificate-authority';

const DAY_MS = 86_400_000;
const LOCAL = [
  { type: 'dns', value: 'localhost' },
  { type: 'ip', value: '127.0.0.1' },
] as const;

/** Certificates of a CA that the service trusts and of one that it does not, and the files that the service reads. */
export class TestCertificates {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'order-certificates-'));

  private constructor(
    readonly authority: CertificateAuthority,
    readonly server: IssuedCertificate,
    readonly clients: Readonly<Record<string, IssuedCertificate>>,
  ) {}

  static async create(): Promise<TestCertificates> {
    const authority = await CertificateAuthority.create('Test CA');
    // With the same name: anybody can give a CA any name.
    const stranger = await CertificateAuthority.create('Test CA');
    const client = { commonName: 'a-client', usage: 'client' } as const;
    const at = (days: number) => new Date(Date.now() + days * DAY_MS);
    const clients = {
      right: await authority.issue(client),
      other: await authority.issue(client),
      expired: await authority.issue({ ...client, notBefore: at(-2), notAfter: at(-1) }),
      'not yet valid': await authority.issue({ ...client, notBefore: at(1), notAfter: at(2) }),
      "another CA's": await stranger.issue(client),
      "a server's": await authority.issue({ ...client, usage: 'server' }),
    };
    const server = await authority.issue({ commonName: 'localhost', usage: 'server', alternativeNames: [...LOCAL] });
    const certificates = new TestCertificates(authority, server, clients);
    certificates.write('server.crt', server.cert);
    certificates.write('server.key', server.key);
    certificates.write('ca.crt', authority.pem.cert);
    return certificates;
  }

  get ca(): string {
    return this.authority.pem.cert;
  }

  client(name: string): IssuedCertificate {
    const client = this.clients[name];
    if (!client) throw new Error(`There is no client ${name}`);
    return client;
  }

  file(name: string): string {
    return path.join(this.directory, name);
  }

  write(name: string, content: string): void {
    writeFileSync(this.file(name), content);
  }

  remove(): void {
    rmSync(this.directory, { recursive: true });
  }

  /** The service terminates TLS itself. */
  get ownTls() {
    return {
      TLS_CERT_FILE: this.file('server.crt'),
      TLS_KEY_FILE: this.file('server.key'),
      TLS_CLIENT_CA_FILE: this.file('ca.crt'),
    };
  }
}

/** `x5t#S256` of RFC 8705. */
export const thumbprintOf = ({ cert }: IssuedCertificate) => hash('sha256', new X509Certificate(cert).raw, 'base64url');

/** As nginx's `$ssl_client_escaped_cert`. */
export const escapedPem = ({ cert }: IssuedCertificate) => encodeURIComponent(cert);

/** As RFC 9440's `Client-Cert`, which holds one. */
export const byteSequence = (...certificates: IssuedCertificate[]) =>
  `:${Buffer.concat(certificates.map(({ cert }) => new X509Certificate(cert).raw)).toString('base64')}:`;
