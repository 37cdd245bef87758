import 'reflect-metadata'; // required by @peculiar/x509
import { type KeyObject, createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';

const KEY_TYPE = { name: 'ECDSA', namedCurve: 'P-256' };
const SIGNING_ALGORITHM = { ...KEY_TYPE, hash: 'SHA-256' };
const DAY_MS = 86_400_000;
const AUTHORITY_DAYS = 3_650;
const CERTIFICATE_DAYS = 397;

/** A certificate and its private key, as PEM. */
export interface IssuedCertificate {
  readonly cert: string;
  readonly key: string;
}

interface CertificateRequest {
  readonly commonName?: string;
  readonly usage: 'server' | 'client';
  readonly alternativeNames?: x509.JsonGeneralNames;
  /** By default the certificate is valid from a minute ago, and for 397 days. */
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}

/** A certificate authority (RFC 5280) for the sandbox and for tests. */
export class CertificateAuthority {
  private constructor(
    private readonly certificate: x509.X509Certificate,
    private readonly privateKey: KeyObject,
  ) {}

  static async create(name: string): Promise<CertificateAuthority> {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: KEY_TYPE.namedCurve });
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      name: [{ CN: [name] }],
      notBefore: new Date(Date.now() - 60_000),
      notAfter: new Date(Date.now() + AUTHORITY_DAYS * DAY_MS),
      keys: { privateKey: toCryptoKey(privateKey, 'sign'), publicKey: toCryptoKey(publicKey, 'verify') },
      signingAlgorithm: SIGNING_ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(toCryptoKey(publicKey, 'verify')),
      ],
    });
    return new CertificateAuthority(certificate, privateKey);
  }

  /** @throws {Error} when the two do not belong together */
  static fromPem({ cert, key }: IssuedCertificate): CertificateAuthority {
    const privateKey = createPrivateKey(key);
    if (!new X509Certificate(cert).checkPrivateKey(privateKey))
      throw new Error('The CA certificate and the key do not match');
    return new CertificateAuthority(new x509.X509Certificate(cert), privateKey);
  }

  get pem(): IssuedCertificate {
    return { cert: toPem(this.certificate), key: keyToPem(this.privateKey) };
  }

  async issue(request: CertificateRequest): Promise<IssuedCertificate> {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: KEY_TYPE.namedCurve });
    const { commonName, usage, alternativeNames = [] } = request;
    const certificate = await x509.X509CertificateGenerator.create({
      subject: commonName === undefined ? [] : [{ CN: [commonName] }],
      issuer: this.certificate.subjectName,
      notBefore: request.notBefore ?? new Date(Date.now() - 60_000),
      notAfter: request.notAfter ?? new Date(Date.now() + CERTIFICATE_DAYS * DAY_MS),
      publicKey: toCryptoKey(publicKey, 'verify'),
      signingKey: toCryptoKey(this.privateKey, 'sign'),
      signingAlgorithm: SIGNING_ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          usage === 'server' ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth,
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(this.certificate.publicKey),
        ...(alternativeNames.length > 0 ? [new x509.SubjectAlternativeNameExtension(alternativeNames)] : []),
      ],
    });
    return { cert: toPem(certificate), key: keyToPem(privateKey) };
  }
}

const toCryptoKey = (key: KeyObject, usage: 'sign' | 'verify') => key.toCryptoKey(KEY_TYPE, true, [usage]);

const toPem = (certificate: x509.X509Certificate) => `${certificate.toString('pem').trim()}\n`;

const keyToPem = (key: KeyObject) => key.export({ type: 'pkcs8', format: 'pem' }).toString();
