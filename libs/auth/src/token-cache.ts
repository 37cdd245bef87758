import { hash } from 'node:crypto';
import type { Principal } from '@platform/request-context';
import type { JWTPayload } from 'jose';
import { LRUCache } from 'lru-cache';
import type { VerificationKey } from './verification-key';

interface VerifiedToken {
  readonly principal: Principal;
  readonly key: VerificationKey;
  /** Valid from the first (inclusive) until the second (exclusive), in milliseconds since the epoch. */
  readonly from: number;
  readonly until: number;
}

/**
 * LRU cache of the principals of verified tokens. Its keys are the tokens' SHA-256 digests, so that memory holds no
 * usable token.
 */
export class TokenCache {
  private readonly tokens: LRUCache<string, VerifiedToken>;

  /** @param toleranceS allowed clock skew, in whole seconds like the verification's */
  constructor(
    maxTokens: number,
    private readonly toleranceS: number,
  ) {
    this.tokens = new LRUCache({ max: maxTokens });
  }

  /** @returns undefined for a token that is not cached, not valid now, or whose key has been revoked since */
  get(token: string): Omit<VerifiedToken, 'from' | 'until'> | undefined {
    const digest = digestOf(token);
    const known = this.tokens.get(digest);
    if (!known) return undefined;
    const now = Date.now();
    if (!known.key.isRevoked && now >= known.from && now < known.until) return known;
    this.tokens.delete(digest);
    return undefined;
  }

  /** @param claims verified claims of the token; `exp` and `nbf` are NumericDates (RFC 7519 section 2) */
  set(token: string, { exp = -Infinity, nbf = -Infinity }: JWTPayload, key: VerificationKey, principal: Principal) {
    // Rounded like the verification, which compares whole seconds.
    const from = Math.ceil(nbf - this.toleranceS) * 1_000;
    const until = Math.ceil(exp + this.toleranceS) * 1_000;
    this.tokens.set(digestOf(token), { principal, key, from, until });
  }
}

const digestOf = (token: string) => hash('sha256', token, 'base64');
