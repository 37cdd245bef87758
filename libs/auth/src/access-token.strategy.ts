import { Injectable, type OnModuleInit } from '@nestjs/common';
import { ServiceError } from '@platform/errors';
import { FailedAuthentications } from '@platform/rate-limit';
import { currentContext, type Principal } from '@platform/request-context';
import type { Request } from 'express';
import passport, { Strategy } from 'passport';
import { ExtractJwt } from 'passport-jwt';
import { AccessTokenVerifier } from './access-token-verifier';

/** RFC 6750 section 2.1. Checked first: passport-jwt's own pattern takes seconds on a long header without spaces. */
const BEARER = /^Bearer +[\w\-.~+/]+=*$/i;

const bearerToken = ExtractJwt.fromAuthHeaderAsBearerToken();

export function bearerTokenOf(req: Request): string | undefined {
  return BEARER.test(req.headers.authorization ?? '') ? (bearerToken(req) ?? undefined) : undefined;
}

/**
 * Passport strategy that verifies bearer tokens (RFC 6750). Tokens in the cache do not get here: the guard admits them.
 * docs/adr/0003 says why passport-jwt's own strategy is not used.
 */
@Injectable()
export class AccessTokenStrategy extends Strategy implements OnModuleInit {
  static readonly NAME = 'access-token';
  override readonly name = AccessTokenStrategy.NAME;

  constructor(
    private readonly verifier: AccessTokenVerifier,
    private readonly failedAuthentications: FailedAuthentications,
  ) {
    super();
  }

  onModuleInit(): void {
    passport.use(this);
  }

  override authenticate(req: Request): void {
    const token = bearerTokenOf(req);
    if (token === undefined) {
      const message = 'Missing or invalid Authorization header';
      this.error(
        new ServiceError('UNAUTHORIZED', message, { headers: { 'WWW-Authenticate': 'Bearer realm="orders"' } }),
      );
      return;
    }
    this.verifyWithinLimit(token).then(
      (principal) => this.success(principal),
      (error: unknown) => this.error(error),
    );
  }

  /** Here a token costs CPU time, hence the limit. Cached tokens must not get here: they are never limited. */
  private async verifyWithinLimit(token: string): Promise<Principal> {
    this.failedAuthentications.assertWithinLimit(currentContext()?.address);
    return this.verifier.verify(token);
  }
}
