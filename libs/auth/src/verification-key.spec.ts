import { generateKeyPairSync } from 'node:crypto';
import type { JWK } from 'jose';
import { ALGORITHMS, VerificationKey } from './verification-key';

const jwk = (key: { export(options: { format: 'jwk' }): object }, more: object = {}): JWK => ({
  ...(key.export({ format: 'jwk' }) as JWK),
  ...more,
});
const rsa = (modulusLength = 2_048) => generateKeyPairSync('rsa', { modulusLength });
const ec = (namedCurve = 'P-256') => generateKeyPairSync('ec', { namedCurve });

describe('VerificationKey.ofJwk', () => {
  const rsaKey = rsa().publicKey;
  const ecKey = ec().publicKey;
  const edKey = generateKeyPairSync('ed25519').publicKey;

  it.each<[string, JWK, string[]]>([
    ['an RSA key', jwk(rsaKey), ['RS256', 'PS256']],
    ['an RSA key for one algorithm', jwk(rsaKey, { alg: 'PS256' }), ['PS256']],
    ['a P-256 key', jwk(ecKey, { use: 'sig' }), ['ES256']],
    ['an Ed25519 key', jwk(edKey, { key_ops: ['verify'] }), ['EdDSA']],
  ])('reads %s for the algorithms that it serves', async (_, published, algorithms) => {
    const key = await VerificationKey.ofJwk(published);
    expect(ALGORITHMS.filter((alg) => key?.fits({ alg }))).toEqual(algorithms);
    expect(key?.fits({ alg: 'HS256' })).toBe(false);
    expect(key?.fits({})).toBe(false);
  });

  it.each<[string, JWK]>([
    ['an RSA key of 1,024 bits', jwk(rsa(1_024).publicKey)],
    ['a P-384 key', jwk(ec('P-384').publicKey)],
    ['an X25519 key', jwk(generateKeyPairSync('x25519').publicKey)],
    ['a private key', jwk(ec().privateKey)],
    ['a secret', { kty: 'oct', k: 'c2VjcmV0' }],
    ['a key for encryption', jwk(ecKey, { use: 'enc' })],
    ['a key for signing alone', jwk(ecKey, { key_ops: ['sign'] })],
    ['a key for an algorithm that is not allowed', jwk(rsaKey, { alg: 'RS512' })],
    ['a key without its numbers', { kty: 'RSA', e: 'AQAB' }],
    ['numbers that are none', { kty: 'EC', crv: 'P-256', x: 1, y: {} } as unknown as JWK],
    ['a point that is not on the curve', jwk(ecKey, { y: 'A'.repeat(43) })],
    ['a type that nobody knows', { kty: 'XYZ' }],
  ])('passes over %s', async (_, published) => {
    expect(await VerificationKey.ofJwk(published)).toBeUndefined();
  });

  it('fits the tokens that name it, and those that name none', async () => {
    const key = await VerificationKey.ofJwk(jwk(ecKey, { kid: 'a' }));
    expect(
      [{ kid: 'a' }, {}, { kid: 'b' }, { kid: '' }].map((header) => key?.fits({ alg: 'ES256', ...header })),
    ).toEqual([true, true, false, false]);
    const nameless = await VerificationKey.ofJwk(jwk(ecKey));
    expect(nameless?.fits({ alg: 'ES256', kid: 'a' })).toBe(false);
    expect(nameless?.fits({ alg: 'ES256' })).toBe(true);
  });

  it('gives keys one fingerprint if they verify the same tokens', async () => {
    const fingerprint = async (published: JWK) => (await VerificationKey.ofJwk(published))?.fingerprint;
    const published = jwk(ecKey, { kid: 'a', use: 'sig' });
    const reordered = Object.fromEntries(Object.entries(published).reverse()) as JWK;
    expect(await fingerprint({ ...reordered, x5t: 'x' })).toBe(await fingerprint(published));
    const others = [
      { ...published, kid: 'b' },
      { ...published, alg: 'ES256' },
      jwk(ec().publicKey, { kid: 'a', use: 'sig' }),
    ];
    for (const other of others) expect(await fingerprint(other)).not.toBe(await fingerprint(published));
  });
});

describe('VerificationKey.ofSharedSecret', () => {
  it('serves HS256 alone', () => {
    const key = VerificationKey.ofSharedSecret('a-shared-secret-of-at-least-32-characters');
    expect(['HS256', ...ALGORITHMS].filter((alg) => key.fits({ alg }))).toEqual(['HS256']);
    expect(() => key.materialFor({ alg: 'RS256' })).toThrow(TypeError);
  });
});
