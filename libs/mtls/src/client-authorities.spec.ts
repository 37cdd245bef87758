import 'reflect-metadata'; // @peculiar/x509 does not start without
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { ClientAuthorities } from './client-authorities';
import { presentedCertificate } from './presented-certificate';

const KEY_TYPE = { name: 'ECDSA', namedCurve: 'P-256' };
const DAY_MS = 86_400_000;

const keyPair = () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    privateKey: privateKey.toCryptoKey(KEY_TYPE, true, ['sign']),
    publicKey: publicKey.toCryptoKey(KEY_TYPE, true, ['verify']),
  };
};
const signingAlgorithm = { ...KEY_TYPE, hash: 'SHA-256' };
const toNode = (certificate: x509.X509Certificate) => new X509Certificate(certificate.toString('pem'));

describe('ClientAuthorities', () => {
  const keys = keyPair();
  const authority = async (fromDays: number, toDays: number, isCa = true) =>
    toNode(
      await x509.X509CertificateGenerator.createSelfSigned({
        name: 'CN=A CA',
        notBefore: new Date(Date.now() + fromDays * DAY_MS),
        notAfter: new Date(Date.now() + toDays * DAY_MS),
        keys,
        signingAlgorithm,
        extensions: [new x509.BasicConstraintsExtension(isCa, undefined, true)],
      }),
    );
  const client = async () =>
    presentedCertificate(
      toNode(
        await x509.X509CertificateGenerator.create({
          subject: 'CN=a-client',
          issuer: 'CN=A CA',
          notBefore: new Date(Date.now() - DAY_MS),
          notAfter: new Date(Date.now() + DAY_MS),
          publicKey: keyPair().publicKey,
          signingKey: keys.privateKey,
          signingAlgorithm,
        }),
      ),
    );

  it('know a certificate of a CA that was renewed under its name and key, in whatever order the two stand', async () => {
    const [old, renewed] = [await authority(-20, -10), await authority(-11, 100)];
    const certificate = await client();
    expect(new ClientAuthorities([old, renewed]).haveIssued(certificate)).toBe(true);
    expect(new ClientAuthorities([renewed, old]).haveIssued(certificate)).toBe(true);
  });

  it('do not know one whose CA is out of date, is not in force yet, or is not there', async () => {
    const certificate = await client();
    for (const authorities of [[await authority(-20, -10)], [await authority(10, 20)], []]) {
      expect(new ClientAuthorities(authorities).haveIssued(certificate)).toBe(false);
    }
  });

  it('take a certificate of the file that is no CA’s for itself, and for none that its key has signed', async () => {
    const pinned = await authority(-1, 1, false);
    const authorities = new ClientAuthorities([pinned]);
    expect(authorities.haveIssued(presentedCertificate(pinned))).toBe(true);
    expect(authorities.haveIssued(await client())).toBe(false);
  });
});
