import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { Config } from '@platform/config';
import type { ClientCertificate } from '@platform/request-context';
import { LRUCache } from 'lru-cache';
import { CertificateRefused } from './certificate-refused';
import { isCurrent } from './client-authorities';
import { certificateFromHeader, type PresentedCertificate, presentedCertificate } from './presented-certificate';
import type { TlsFiles } from './tls-files';
import type { TrustedProxies } from './trusted-proxies';

/** Certificates from headers that are remembered, of a few kilobytes each. */
const REMEMBERED = 1_000;

/** Says with which certificate a request comes. */
export class ClientCertificates {
  /** A connection has one certificate: it is asked for no second one (no renegotiation), and resumes no other. */
  private readonly fromHandshakes = new WeakMap<TLSSocket, PresentedCertificate | 'none' | 'unknown'>();
  /** By the text of the header: a proxy sends requests of many clients over one connection. */
  private readonly fromHeaders = new LRUCache<string, PresentedCertificate>({ max: REMEMBERED });

  constructor(
    private readonly config: Config,
    private readonly proxies: TrustedProxies,
    private readonly files: TlsFiles,
  ) {}

  /**
   * The client's valid certificate, if it has one: from the header if the peer is a trusted proxy, whose own
   * certificate says nothing of the client, and from the handshake otherwise.
   * @throws {CertificateRefused} when there has to be one, or when there is one that is not valid
   */
  of(req: IncomingMessage): ClientCertificate | undefined {
    const { mode } = this.config.mtls;
    if (mode === 'off') return undefined;
    const presented = this.proxies.has(req.socket.remoteAddress) ? this.fromHeader(req) : this.fromHandshake(req);
    if (presented === undefined) {
      if (mode === 'required') throw new CertificateRefused('certificate_missing');
      return undefined;
    }
    // Asked for each request, because a connection may outlive its certificate, and its CA's place in the file.
    const { clientAuthorities } = this.files;
    const isIssued = clientAuthorities === undefined || clientAuthorities.haveIssued(presented);
    if (!isIssued || !isCurrent(presented.validity)) throw new CertificateRefused('certificate_invalid');
    return presented.facts;
  }

  private fromHandshake({ socket }: IncomingMessage): PresentedCertificate | undefined {
    if (!(socket instanceof TLSSocket)) return undefined;
    let presented = this.fromHandshakes.get(socket);
    if (presented === undefined) {
      const x509 = socket.getPeerX509Certificate();
      // `authorized` alone says nothing: it is true also of a resumed session that had no certificate.
      if (x509) presented = socket.authorized ? presentedCertificate(x509) : 'unknown';
      else presented = 'none';
      this.fromHandshakes.set(socket, presented);
    }
    if (presented === 'unknown') {
      // The connection keeps what it began with; by now the client or its CA may be known.
      const headers = { Connection: 'close' };
      throw new CertificateRefused('certificate_invalid', { cause: socket.authorizationError, headers });
    }
    return presented === 'none' ? undefined : presented;
  }

  private fromHeader(req: IncomingMessage): PresentedCertificate | undefined {
    const { certificateHeader } = this.config.mtls;
    const values = certificateHeader === undefined ? undefined : req.headersDistinct[certificateHeader];
    if (values === undefined) return undefined;
    const [value = '', ...others] = values;
    if (others.length > 0) throw new CertificateRefused('certificate_invalid');
    if (value === '' || value === '::') return undefined; // RFC 9440's form of nothing, as HAProxy writes it
    let presented = this.fromHeaders.get(value);
    if (!presented) {
      try {
        presented = presentedCertificate(certificateFromHeader(value));
      } catch (cause) {
        throw new CertificateRefused('certificate_invalid', { cause });
      }
      this.fromHeaders.set(value, presented);
    }
    return presented;
  }
}
