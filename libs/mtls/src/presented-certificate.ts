import { hash, X509Certificate } from 'node:crypto';
import type { ClientCertificate } from '@platform/request-context';

/** Milliseconds since the epoch, both inclusive. */
export interface Validity {
  readonly from: number;
  readonly to: number;
}

/** A client certificate from a handshake or a proxy. Its issuer has not been checked yet. */
export interface PresentedCertificate {
  readonly x509: X509Certificate;
  readonly validity: Validity;
  readonly facts: ClientCertificate;
}

/** Parses a certificate. This takes longer than verifying a token, so callers cache the result. */
export function presentedCertificate(x509: X509Certificate): PresentedCertificate {
  const { CN: commonName } = x509.toLegacyObject().subject as { CN?: string | string[] };
  return {
    x509,
    validity: validityOf(x509),
    facts: {
      thumbprint: hash('sha256', x509.raw, 'base64url'),
      // If there are several common names, none of them counts.
      ...(typeof commonName === 'string' && { commonName }),
      alternativeNames: alternativeNamesOf(x509.subjectAltName ?? ''),
    },
  };
}

export function validityOf(x509: X509Certificate): Validity {
  return { from: x509.validFromDate.getTime(), to: x509.validToDate.getTime() };
}

/**
 * The DNS names and URIs in Node's text form of a subjectAltName: `DNS:a, URI:b`. Node writes a name with a comma or a
 * quote as a JSON string, so that one name cannot pose as two (CVE-2021-44532).
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
 * Parses a header with one certificate: `Client-Cert` of RFC 9440 (base64 of the DER encoding between colons), or
 * percent-encoded PEM (nginx's `$ssl_client_escaped_cert`, Envoy's `%DOWNSTREAM_PEER_CERT%`, AWS's load balancers).
 * @throws {Error} if the value is anything else, also if it holds two certificates
 */
export function certificateFromHeader(value: string): X509Certificate {
  const bytes = BYTE_SEQUENCE.exec(value)?.[1];
  if (bytes !== undefined) {
    const der = Buffer.from(bytes, 'base64');
    const x509 = new X509Certificate(der);
    // X509Certificate accepts PEM too, and ignores what follows the first certificate.
    if (!x509.raw.equals(der)) throw new Error('The header holds more than one certificate in DER');
    return x509;
  }
  const pem = decodeURIComponent(value);
  if (!PEM.test(pem)) throw new Error('The header holds no certificate');
  return new X509Certificate(pem);
}
