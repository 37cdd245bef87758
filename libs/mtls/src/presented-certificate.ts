import { hash, X509Certificate } from 'node:crypto';
import type { ClientCertificate } from '@platform/request-context';

/** Milliseconds since 1970, both included. */
export interface Validity {
  readonly from: number;
  readonly to: number;
}

/** A certificate as a handshake or a proxy has brought it. Nothing is said yet of who issued it. */
export interface PresentedCertificate {
  readonly x509: X509Certificate;
  readonly validity: Validity;
  readonly facts: ClientCertificate;
}

/** Parsing takes longer than verifying a token: it is done once for a certificate, not for every request. */
export function presentedCertificate(x509: X509Certificate): PresentedCertificate {
  const { CN: commonName } = x509.toLegacyObject().subject as { CN?: string | string[] };
  return {
    x509,
    validity: validityOf(x509),
    facts: {
      thumbprint: hash('sha256', x509.raw, 'base64url'),
      // Of two names neither is the name.
      ...(typeof commonName === 'string' && { commonName }),
      alternativeNames: alternativeNamesOf(x509.subjectAltName ?? ''),
    },
  };
}

export function validityOf(x509: X509Certificate): Validity {
  return { from: x509.validFromDate.getTime(), to: x509.validToDate.getTime() };
}

/**
 * The DNS names and URIs. Node writes `DNS:a, URI:b`, and a name with a comma or a quote as a JSON string, so that no
 * name can pretend to be two (CVE-2021-44532).
 */
export function alternativeNamesOf(subjectAltName: string): string[] {
  const names = subjectAltName.matchAll(/(?:^|, )([^:,"]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?=, |$)/g);
  return [...names]
    .filter(([, kind]) => kind === 'DNS' || kind === 'URI')
    .map(([, , name = '']) => (name.startsWith('"') ? (JSON.parse(name) as string) : name));
}

const PEM = /^-----BEGIN CERTIFICATE-----\s[A-Za-z\d+/=\s]+-----END CERTIFICATE-----\s*$/;
const BYTE_SEQUENCE = /^:([A-Za-z\d+/]+={0,2}):$/;

/**
 * One certificate from a header: `Client-Cert` of RFC 9440 (base64 of the DER encoding between colons), or
 * percent-encoded PEM (nginx's `$ssl_client_escaped_cert`, Envoy's `%DOWNSTREAM_PEER_CERT%`, AWS's load balancers).
 * @throws {Error} when it is anything else, two certificates included
 */
export function certificateFromHeader(value: string): X509Certificate {
  const bytes = BYTE_SEQUENCE.exec(value)?.[1];
  if (bytes !== undefined) {
    const der = Buffer.from(bytes, 'base64');
    const x509 = new X509Certificate(der);
    // It reads PEM as well, and no further than to the end of the first certificate.
    if (!x509.raw.equals(der)) throw new Error('The header holds more than one certificate in DER');
    return x509;
  }
  const pem = decodeURIComponent(value);
  if (!PEM.test(pem)) throw new Error('The header holds no certificate');
  return new X509Certificate(pem);
}
