import { hash } from 'node:crypto';
import type { Principal } from '@platform/request-context';
import type { JWTPayload } from 'jose';
import { LRUCache } from 'lru-cache';
import type { VerificationKey } from './verification-key';

interface VerifiedToken {
  readonly principal: Principal;
  readonly key: VerificationKey;
  /** The token is good from the first to just before the second, in milliseconds since the epoch. */
  readonly from: number;
  readonly until: number;
}

/**
 * Who presented a token that was verified before. Tokens are known by their SHA-256 alone, so that none can be read from
 * memory. The least recently used make room.
 */
export class TokenCache {
  private readonly tokens: LRUCache<string, VerifiedToken>;

  /** @param toleranceS how far clocks may be apart; whole seconds, as the verification has it */
  constructor(
    maxTokens: number,
    private readonly toleranceS: number,
  ) {
    this.tokens = new LRUCache({ max: maxTokens });
  }

  /** @returns undefined for a token that is not known, is outside of its time, or whose key was revoked meanwhile */
  get(token: string): Omit<VerifiedToken, 'from' | 'until'> | undefined {
    const digest = digestOf(token);
    const known = this.tokens.get(digest);
    if (!known) return undefined;
    const now = Date.now();
    if (!known.key.isRevoked && now >= known.from && now < known.until) return known;
    this.tokens.delete(digest);
    return undefined;
  }

  /** @param claims those of the token, verified: `exp` and `nbf` are NumericDates (RFC 7519 section 2) */
  set(token: string, { exp = -Infinity, nbf = -Infinity }: JWTPayload, key: VerificationKey, principal: Principal) {
    // Rounded as the verification rounds, which compares whole seconds.
    const from = Math.ceil(nbf - this.toleranceS) * 1_000;
    const until = Math.ceil(exp + this.toleranceS) * 1_000;
    this.tokens.set(digestOf(token), { principal, key, from, until });
  }
}

const digestOf = (token: string) => hash('sha256', token, 'base64');
