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

/** Number of certificates from headers that are cached, each a few kilobytes. */
const MAX_CACHED = 1_000;

/** Determines the client certificate of a request. */
export class ClientCertificates {
  /** A connection keeps its certificate: it neither renegotiates nor resumes a session with another. */
  private readonly fromHandshakes = new WeakMap<TLSSocket, PresentedCertificate | 'none' | 'unknown'>();
  /** By header value, because a proxy sends requests of many clients over one connection. */
  private readonly fromHeaders = new LRUCache<string, PresentedCertificate>({ max: MAX_CACHED });

  constructor(
    private readonly config: Config,
    private readonly proxies: TrustedProxies,
    private readonly files: TlsFiles,
  ) {}

  /**
   * The client's valid certificate, if it has one. If the peer is a trusted proxy, it comes from the header, because
   * the proxy's own certificate says nothing about the client; otherwise from the handshake.
   * @throws {CertificateRefused} if the certificate is required and missing, or invalid
   */
  of(req: IncomingMessage): ClientCertificate | undefined {
    const { mode } = this.config.mtls;
    if (mode === 'off') return undefined;
    const presented = this.proxies.has(req.socket.remoteAddress) ? this.fromHeader(req) : this.fromHandshake(req);
    if (presented === undefined) {
      if (mode === 'required') throw new CertificateRefused('certificate_missing');
      return undefined;
    }
    // Checked on every request: the connection may outlive the certificate or its CA's place in the file.
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
      // `authorized` alone is not enough: it is also true for a resumed session without a certificate.
      if (x509) presented = socket.authorized ? presentedCertificate(x509) : 'unknown';
      else presented = 'none';
      this.fromHandshakes.set(socket, presented);
    }
    if (presented === 'unknown') {
      // Closed: this connection keeps its handshake's result; on a new one the CA may be known by now.
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
    if (value === '' || value === '::') return undefined; // an empty byte sequence (RFC 9440), as HAProxy writes it
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
