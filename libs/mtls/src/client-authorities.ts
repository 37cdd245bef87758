import type { X509Certificate } from 'node:crypto';
import { type PresentedCertificate, type Validity, validityOf } from './presented-certificate';

/** Of extended key usages (RFC 5280 section 4.2.1.12) the one that allows to be a TLS client. */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** The authorities that may issue client certificates: what `TLS_CLIENT_CA_FILE` held when it was read. */
export class ClientAuthorities {
  private readonly authorities: readonly { readonly x509: X509Certificate; readonly validity: Validity }[];
  private readonly issuers = new WeakMap<X509Certificate, readonly Validity[]>();

  constructor(certificates: readonly X509Certificate[]) {
    this.authorities = certificates.map((x509) => ({ x509, validity: validityOf(x509) }));
  }

  /**
   * Whether one of the authorities itself has issued the certificate, for a client, and is not out of date. Proxies
   * forward no intermediate certificates, so those have to be among the authorities.
   */
  haveIssued({ x509 }: PresentedCertificate): boolean {
    let issuers = this.issuers.get(x509);
    if (issuers === undefined) {
      issuers = this.issuersOf(x509).map(({ validity }) => validity);
      this.issuers.set(x509, issuers);
    }
    return issuers.some((validity) => isCurrent(validity));
  }

  /** Several, where a CA was renewed under its name and key. */
  private issuersOf(x509: X509Certificate) {
    const { keyUsage } = x509 as { keyUsage?: readonly string[] }; // Node's name for the extended key usage
    if (keyUsage !== undefined && !keyUsage.includes(CLIENT_AUTH)) return [];
    // A certificate that is listed without being a CA's vouches for itself alone.
    const mayIssue = (ca: X509Certificate) => ca.ca || ca.raw.equals(x509.raw);
    return this.authorities.filter(({ x509: ca }) => mayIssue(ca) && x509.checkIssued(ca) && x509.verify(ca.publicKey));
  }
}

export function isCurrent({ from, to }: Validity, now = Date.now()): boolean {
  return from <= now && now <= to;
}
