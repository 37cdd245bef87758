import { createLocalJWKSet, type CryptoKey, type JWK, type JWSHeaderParameters } from 'jose';

/** Signature algorithms that the contract allows, all of them asymmetric. */
export const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'] as const;
/** RFC 7518 section 3.3 */
const MIN_RSA_BITS = 2_048;

/** A key by which tokens are verified. It is the same object for as long as it is good. */
export class VerificationKey {
  /** True from the moment that we know that its owner no longer publishes it. It never becomes good again. */
  isRevoked = false;

  /** @param materials the key as each algorithm takes it: one RSA key serves RS256 and PS256 */
  private constructor(
    readonly fingerprint: string,
    private readonly kid: string | undefined,
    private readonly materials: ReadonlyMap<string, CryptoKey | Uint8Array>,
  ) {}

  static ofSharedSecret(secret: string): VerificationKey {
    return new VerificationKey('', undefined, new Map([['HS256', new TextEncoder().encode(secret)]]));
  }

  /** @returns undefined for a key that no token can be verified by: RFC 7517 section 5 wants it passed over */
  static async ofJwk(jwk: JWK): Promise<VerificationKey | undefined> {
    // One set per key lets jose judge what a key is good for: kty, crv, use, key_ops, alg, and that it is public.
    const materials = new Map<string, CryptoKey>();
    for (const alg of ALGORITHMS) {
      const material = await createLocalJWKSet({ keys: [jwk] })({ alg }).catch(() => undefined);
      if (material && isLongEnough(material)) materials.set(alg, material);
    }
    return materials.size > 0 ? new VerificationKey(fingerprintOf(jwk), jwk.kid, materials) : undefined;
  }

  /** A token without `kid` fits every key of its type, a key without `kid` only such tokens. */
  fits({ alg, kid }: JWSHeaderParameters): boolean {
    return (kid === undefined || kid === this.kid) && this.materials.has(alg ?? '');
  }

  materialFor({ alg }: JWSHeaderParameters): CryptoKey | Uint8Array {
    const material = this.materials.get(alg ?? '');
    if (!material) throw new TypeError(`The key does not serve ${alg}`);
    return material;
  }
}

/** Two JWKs with one fingerprint verify the same tokens. */
const fingerprintOf = ({ kid, alg, use, key_ops, kty, crv, n, e, x, y }: JWK) =>
  JSON.stringify([kid, alg, use, key_ops, kty, crv, n, e, x, y]);

function isLongEnough({ algorithm }: CryptoKey): boolean {
  const bits = (algorithm as { modulusLength?: number }).modulusLength;
  return bits === undefined || bits >= MIN_RSA_BITS;
}
