import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { Config } from '@platform/config';

export type TlsVariable = 'TLS_CERT_FILE' | 'TLS_KEY_FILE' | 'TLS_CLIENT_CA_FILE';

/** Contents of the TLS files by the variables that name them; null for a file that cannot be read. */
export type TlsContents = Readonly<Partial<Record<TlsVariable, string | null>>>;

/** Certificates and keys that have been checked to fit together. */
export interface TlsMaterial {
  /** PEM of the certificate, followed by intermediate ones, and of its key; `certificate` is the first, parsed. */
  readonly server?: { readonly cert: string; readonly key: string; readonly certificate: X509Certificate };
  readonly clientCa?: { readonly pem: string; readonly certificates: readonly X509Certificate[] };
}

export function tlsFilesOf({ tls, mtls }: Config): [TlsVariable, string][] {
  const files: [TlsVariable, string][] = [];
  if (tls) files.push(['TLS_CERT_FILE', tls.certFile], ['TLS_KEY_FILE', tls.keyFile]);
  if (mtls.clientCaFile !== undefined) files.push(['TLS_CLIENT_CA_FILE', mtls.clientCaFile]);
  return files;
}

/** @returns the material, or its faults: one sentence each, beginning with the variable's name */
export function tlsMaterial(contents: TlsContents): { material: TlsMaterial } | { faults: string[] } {
  const unread = Object.entries(contents).filter(([, content]) => content === null);
  if (unread.length > 0) return { faults: unread.map(([variable]) => `${variable} names a file that cannot be read`) };

  const faults: string[] = [];
  const { TLS_CERT_FILE: cert, TLS_KEY_FILE: key, TLS_CLIENT_CA_FILE: ca } = contents;
  const material: { -readonly [K in keyof TlsMaterial]: TlsMaterial[K] } = {};
  if (typeof cert === 'string' && typeof key === 'string') {
    const [certificate] = certificatesIn(cert);
    const privateKey = privateKeyIn(key);
    if (!certificate) faults.push('TLS_CERT_FILE holds no certificate in PEM, or a damaged one');
    if (!privateKey) faults.push('TLS_KEY_FILE holds no private key in PEM that needs no passphrase');
    if (certificate && privateKey && !certificate.checkPrivateKey(privateKey)) {
      faults.push('TLS_KEY_FILE is not the key of TLS_CERT_FILE');
    }
    if (certificate) material.server = { cert, key, certificate };
  }
  if (typeof ca === 'string') {
    material.clientCa = { pem: ca, certificates: certificatesIn(ca) };
    if (material.clientCa.certificates.length === 0) {
      faults.push('TLS_CLIENT_CA_FILE holds no certificate in PEM, or a damaged one');
    }
  }
  if (faults.length === 0 && !isUsable(material)) faults.push('TLS_CERT_FILE is not usable: its key may be too short');
  return faults.length === 0 ? { material } : { faults };
}

/** All certificates in the PEM; none if one of them is damaged. */
function certificatesIn(pem: string): X509Certificate[] {
  const parts = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  try {
    return parts.map((part) => new X509Certificate(part));
  } catch {
    return [];
  }
}

function privateKeyIn(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined;
  }
}

/** OpenSSL may refuse material for further reasons. */
function isUsable({ server, clientCa }: TlsMaterial): boolean {
  try {
    createSecureContext({ cert: server?.cert, key: server?.key, ca: clientCa?.pem });
    return true;
  } catch {
    return false;
  }
}
