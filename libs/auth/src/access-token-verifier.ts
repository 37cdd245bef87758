import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { ServiceError } from '@platform/errors';
import type { Principal } from '@platform/request-context';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import { errors, type JWSHeaderParameters, type JWTPayload, jwtVerify, type JWTVerifyOptions } from 'jose';
import type { Counter } from 'prom-client';
import { type AuthFailureReason, InvalidToken } from './invalid-token';
import { SigningKeys } from './signing-keys';
import { TokenCache } from './token-cache';
import { ALGORITHMS, VerificationKey } from './verification-key';

const CLOCK_TOLERANCE_S = 5;
/** About 1 KB each. A client uses one token at a time. Beyond this many, the least recently used are evicted. */
const MAX_CACHED_TOKENS = 10_000;

/** Verifies JWT access tokens (RFC 7519, RFC 9068) and derives the principal from their claims. */
@Injectable()
export class AccessTokenVerifier {
  private readonly options: JWTVerifyOptions;
  private readonly sharedSecret: VerificationKey | undefined;
  private readonly cache = new TokenCache(MAX_CACHED_TOKENS, CLOCK_TOLERANCE_S);

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly signingKeys: SigningKeys,
    @InjectMetric('token_cache_requests_total') private readonly cacheRequests: Counter<'outcome'>,
  ) {
    const { sharedSecret, issuer, audience, requireAtJwt } = config.oidc;
    this.sharedSecret = sharedSecret === undefined ? undefined : VerificationKey.ofSharedSecret(sharedSecret);
    this.options = {
      issuer,
      audience,
      algorithms: this.sharedSecret ? [...ALGORITHMS, 'HS256'] : [...ALGORITHMS],
      clockTolerance: CLOCK_TOLERANCE_S,
      requiredClaims: ['exp'],
      // jose also accepts `application/at+jwt`, and both in any case (RFC 9068 section 4).
      ...(requireAtJwt && { typ: 'at+jwt' }),
    };
  }

  /** @throws {InvalidToken} or {ServiceError} SERVICE_UNAVAILABLE while the provider's keys are not available */
  async verify(token: string): Promise<Principal> {
    const known = this.recall(token);
    if (known) return known;
    this.cacheRequests.inc({ outcome: 'miss' });
    try {
      const { claims, key } = await this.verifySignature(token);
      if (!isCanonical(token.slice(token.lastIndexOf('.') + 1))) throw new errors.JWSSignatureVerificationFailed();
      const principal = this.toPrincipal(claims);
      this.cache.set(token, claims, key, principal);
      return principal;
    } catch (error) {
      if (error instanceof ServiceError) throw error;
      if (!(error instanceof errors.JOSEError)) throw ServiceError.unavailable(error);
      throw new InvalidToken(reasonOf(error), error);
    }
  }

  /**
   * The principal of a token that was verified before and is still valid. Needs no rate limit, since it costs one
   * SHA-256.
   * @returns undefined for any other token: {@link verify} decides about it
   */
  recall(token: string): Principal | undefined {
    const known = this.cache.get(token);
    if (!known || !(known.key === this.sharedSecret || this.signingKeys.areFresh)) return undefined;
    this.cacheRequests.inc({ outcome: 'hit' });
    return known.principal;
  }

  private async verifySignature(token: string): Promise<{ claims: JWTPayload; key: VerificationKey }> {
    let candidates: readonly VerificationKey[] = [];
    for (let i = 0; ; i += 1) {
      const getKey = async (header: JWSHeaderParameters) => {
        if (i === 0) candidates = await this.candidatesFor(header);
        return candidates[i]!.materialFor(header);
      };
      try {
        const { payload } = await jwtVerify(token, getKey, this.options);
        return { claims: payload, key: candidates[i]! };
      } catch (error) {
        // A token without `kid` is tried with every key of its type and accepted if one of them verifies it.
        if (!(error instanceof errors.JWSSignatureVerificationFailed) || i + 1 >= candidates.length) throw error;
      }
    }
  }

  /** The header's algorithm selects the kind of key, so that a public key is never used as an HMAC secret. */
  private async candidatesFor(header: JWSHeaderParameters): Promise<readonly VerificationKey[]> {
    return header.alg === 'HS256' && this.sharedSecret ? [this.sharedSecret] : this.signingKeys.find(header);
  }

  private toPrincipal(claims: JWTPayload): Principal {
    const clientId = claims['client_id'] ?? claims['azp'] ?? claims.sub;
    const { tenantClaim, scopeClaim } = this.config.oidc;
    const tenant = tenantClaim === undefined ? undefined : claims[tenantClaim];
    if (!isName(clientId) || (tenant !== undefined && !isName(tenant))) throw new InvalidToken('claims');
    if (tenant?.startsWith(OWN_TENANT)) throw new InvalidToken('claims');
    // Frozen, because all requests with this token share the object.
    return Object.freeze({
      clientId,
      tenantId: tenant ?? `${OWN_TENANT}${clientId}`,
      scopes: new Set(scopesOf(scopeClaim === undefined ? (claims['scope'] ?? claims['scp']) : claims[scopeClaim])),
      boundTo: confirmationOf(claims),
    });
  }
}

/**
 * Prefix of the tenant id of a client whose tokens name no tenant. Tenant names must not begin with it, so that a
 * client cannot get into another tenant by its client id.
 */
const OWN_TENANT = 'client:';

/** 1 to 255 code points without control characters and lone surrogates. */
const isName = (value: unknown): value is string =>
  typeof value === 'string' && value.isWellFormed() && /^\P{Cc}{1,255}$/u.test(value);

/**
 * Whether base64url has no bits set that decoders ignore (RFC 4648 section 3.5). Otherwise the last character of a
 * signature could be changed, and the token would still be valid.
 */
const isCanonical = (encoded: string) => Buffer.from(encoded, 'base64url').toString('base64url') === encoded;

/** `scope` is a space-separated string (RFC 8693 section 4.2); some providers send `scp` instead, or an array. */
function scopesOf(claim: unknown): string[] {
  if (typeof claim === 'string') return claim.split(' ');
  return Array.isArray(claim) ? claim.filter((scope) => typeof scope === 'string') : [];
}

/** A token bound by a method that we cannot check (RFC 7800) must not be accepted as an unbound one. */
function confirmationOf({ cnf }: JWTPayload): string | undefined {
  if (cnf === undefined) return undefined;
  const { 'x5t#S256': thumbprint, ...others } = (cnf ?? {}) as Record<string, unknown>;
  if (typeof thumbprint !== 'string' || Object.keys(others).length > 0) throw new InvalidToken('claims');
  return thumbprint;
}

function reasonOf(error: InstanceType<typeof errors.JOSEError>): AuthFailureReason {
  if (error instanceof errors.JWTExpired) return 'expired';
  if (error instanceof errors.JWTClaimValidationFailed) {
    switch (error.claim) {
      case 'iss':
        return 'issuer';
      case 'aud':
        return 'audience';
      case 'nbf':
        return 'not_yet_valid';
      case 'typ':
        return 'token_type';
      default:
        return 'claims';
    }
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'signature';
  if (error instanceof errors.JWKSNoMatchingKey) return 'unknown_key';
  if (error instanceof errors.JOSEAlgNotAllowed) return 'algorithm';
  return 'malformed';
}
