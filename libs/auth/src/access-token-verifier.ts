import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '@platform/config';
import { ServiceError } from '@platform/errors';
import type { Principal } from '@platform/request-context';
import { errors, type JWTPayload, jwtVerify, type JWTVerifyGetKey, type JWTVerifyOptions } from 'jose';
import { type AuthFailureReason, InvalidToken } from './invalid-token';
import { SigningKeys } from './signing-keys';

const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'];
const CLOCK_TOLERANCE_S = 5;

/** Verifies access tokens of the JWT kind (RFC 7519, RFC 9068) and says whose they are. */
@Injectable()
export class AccessTokenVerifier {
  private readonly options: JWTVerifyOptions;
  private readonly sharedSecret: Uint8Array | undefined;

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly signingKeys: SigningKeys,
  ) {
    const { sharedSecret, issuer, audience } = config.oidc;
    this.sharedSecret = sharedSecret === undefined ? undefined : new TextEncoder().encode(sharedSecret);
    this.options = {
      issuer,
      audience,
      algorithms: this.sharedSecret ? [...ALGORITHMS, 'HS256'] : ALGORITHMS,
      clockTolerance: CLOCK_TOLERANCE_S,
      requiredClaims: ['exp'],
    };
  }

  /** @throws {InvalidToken} and SERVICE_UNAVAILABLE while the provider's keys cannot be had */
  async verify(token: string): Promise<Principal> {
    try {
      return this.toPrincipal(await this.verifySignature(token));
    } catch (error) {
      if (error instanceof ServiceError) throw error;
      if (!(error instanceof errors.JOSEError)) throw ServiceError.unavailable(error);
      throw new InvalidToken(reasonOf(error), error);
    }
  }

  private async verifySignature(token: string): Promise<JWTPayload> {
    try {
      return (await jwtVerify(token, this.getKey, this.options)).payload;
    } catch (error) {
      // A token without `kid` fits every key of its type: it is good if one of them verifies it.
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
      for await (const key of error) {
        try {
          return (await jwtVerify(token, key, this.options)).payload;
        } catch (failure) {
          if (!(failure instanceof errors.JWSSignatureVerificationFailed)) throw failure;
        }
      }
      throw new errors.JWSSignatureVerificationFailed();
    }
  }

  /** The algorithm decides which kind of key is asked, so that a public key never serves as an HMAC secret. */
  private readonly getKey: JWTVerifyGetKey = (header, token) =>
    header.alg === 'HS256' && this.sharedSecret ? this.sharedSecret : this.signingKeys.get(header, token);

  private toPrincipal(claims: JWTPayload): Principal {
    const clientId = claims['client_id'] ?? claims['azp'] ?? claims.sub;
    const { tenantClaim } = this.config.oidc;
    const tenant = tenantClaim === undefined ? undefined : claims[tenantClaim];
    if (!isName(clientId) || (tenant !== undefined && !isName(tenant))) throw new InvalidToken('claims');
    return {
      clientId,
      // The prefix keeps a client from choosing an id that is another tenant's name.
      tenantId: tenant ?? `client:${clientId}`,
      scopes: new Set(scopesOf(claims)),
      boundTo: confirmationOf(claims),
    };
  }
}

/** 1 to 255 characters, none of them a control character or half of one. */
const isName = (value: unknown): value is string =>
  typeof value === 'string' && value.isWellFormed() && /^\P{Cc}{1,255}$/u.test(value);

/** `scope` is a space-separated string (RFC 8693 section 4.2); some providers send an array `scp` instead. */
function scopesOf(claims: JWTPayload): string[] {
  if (typeof claims['scope'] === 'string') return claims['scope'].split(' ');
  return Array.isArray(claims['scp']) ? claims['scp'].filter((scope) => typeof scope === 'string') : [];
}

/** RFC 7800: a token that is bound to something which we do not know how to prove must not be taken for an unbound one. */
function confirmationOf({ cnf }: JWTPayload): string | undefined {
  if (cnf === undefined) return undefined;
  const thumbprint = (cnf as Record<string, unknown> | null)?.['x5t#S256'];
  if (typeof thumbprint !== 'string') throw new InvalidToken('claims');
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
      default:
        return 'claims';
    }
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'signature';
  if (error instanceof errors.JWKSNoMatchingKey) return 'unknown_key';
  if (error instanceof errors.JOSEAlgNotAllowed) return 'algorithm';
  return 'malformed';
}
