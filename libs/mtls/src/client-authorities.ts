import type { X509Certificate } from 'node:crypto';
import { type PresentedCertificate, type Validity, validityOf } from './presented-certificate';

/** The extended key usage of TLS clients (RFC 5280 section 4.2.1.12). */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** The CAs that may issue client certificates: the content of `TLS_CLIENT_CA_FILE` when it was read. */
export class ClientAuthorities {
  private readonly authorities: readonly { readonly x509: X509Certificate; readonly validity: Validity }[];
  private readonly issuers = new WeakMap<X509Certificate, readonly Validity[]>();

  constructor(certificates: readonly X509Certificate[]) {
    this.authorities = certificates.map((x509) => ({ x509, validity: validityOf(x509) }));
  }

  /**
   * Whether a currently valid CA of the file has itself issued the certificate, and for client authentication. Proxies
   * forward no intermediate certificates, so intermediate CAs have to be in the file.
   */
  haveIssued({ x509 }: PresentedCertificate): boolean {
    let issuers = this.issuers.get(x509);
    if (issuers === undefined) {
      issuers = this.issuersOf(x509).map(({ validity }) => validity);
      this.issuers.set(x509, issuers);
    }
    return issuers.some((validity) => isCurrent(validity));
  }

  /** Several, if a CA was renewed with the same name and key. */
  private issuersOf(x509: X509Certificate) {
    const { keyUsage } = x509 as { keyUsage?: readonly string[] }; // what Node calls the extended key usage
    if (keyUsage !== undefined && !keyUsage.includes(CLIENT_AUTH)) return [];
    // A certificate in the file that is not a CA's vouches only for itself.
    const mayIssue = (ca: X509Certificate) => ca.ca || ca.raw.equals(x509.raw);
    return this.authorities.filter(({ x509: ca }) => mayIssue(ca) && x509.checkIssued(ca) && x509.verify(ca.publicKey));
  }
}

export function isCurrent({ from, to }: Validity, now = Date.now()): boolean {
  return from <= now && now <= to;
}
