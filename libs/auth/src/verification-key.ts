import { createLocalJWKSet, type CryptoKey, type JWK, type JWSHeaderParameters } from 'jose';

/** Signature algorithms that the API contract allows, all of them asymmetric. */
export const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'] as const;
/** RFC 7518 section 3.3 */
const MIN_RSA_BITS = 2_048;

/** A key that verifies tokens. It stays the same object for as long as it is valid: compare by identity. */
export class VerificationKey {
  /** True once we know that the provider no longer publishes it. Never becomes false again. */
  isRevoked = false;

  /** @param materials the imported key for each algorithm it serves: one RSA key serves RS256 and PS256 */
  private constructor(
    readonly fingerprint: string,
    private readonly kid: string | undefined,
    private readonly materials: ReadonlyMap<string, CryptoKey | Uint8Array>,
  ) {}

  static ofSharedSecret(secret: string): VerificationKey {
    return new VerificationKey('', undefined, new Map([['HS256', new TextEncoder().encode(secret)]]));
  }

  /** @returns undefined for a key that verifies no tokens: RFC 7517 section 5 asks to ignore it */
  static async ofJwk(jwk: JWK): Promise<VerificationKey | undefined> {
    // A key set of its own lets jose check what the key is for (kty, crv, use, key_ops, alg) and that it is public.
    const materials = new Map<string, CryptoKey>();
    for (const alg of ALGORITHMS) {
      const material = await createLocalJWKSet({ keys: [jwk] })({ alg }).catch(() => undefined);
      if (material && isLongEnough(material)) materials.set(alg, material);
    }
    return materials.size > 0 ? new VerificationKey(fingerprintOf(jwk), jwk.kid, materials) : undefined;
  }

  /** A token without `kid` matches every key of its type. A key without `kid` matches only such tokens. */
  fits({ alg, kid }: JWSHeaderParameters): boolean {
    return (kid === undefined || kid === this.kid) && this.materials.has(alg ?? '');
  }

  materialFor({ alg }: JWSHeaderParameters): CryptoKey | Uint8Array {
    const material = this.materials.get(alg ?? '');
    if (!material) throw new TypeError(`The key does not serve ${alg}`);
    return material;
  }
}

/** Two JWKs with the same fingerprint verify the same tokens. */
const fingerprintOf = ({ kid, alg, use, key_ops, kty, crv, n, e, x, y }: JWK) =>
  JSON.stringify([kid, alg, use, key_ops, kty, crv, n, e, x, y]);

function isLongEnough({ algorithm }: CryptoKey): boolean {
  const bits = (algorithm as { modulusLength?: number }).modulusLength;
  return bits === undefined || bits >= MIN_RSA_BITS;
}
