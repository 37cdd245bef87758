import { Injectable, type OnModuleInit } from '@nestjs/common';
import { ServiceError } from '@platform/errors';
import type { Request } from 'express';
import passport, { Strategy } from 'passport';
import { ExtractJwt } from 'passport-jwt';
import { AccessTokenVerifier } from './access-token-verifier';

const bearerToken = ExtractJwt.fromAuthHeaderAsBearerToken();

/** Passport strategy for bearer tokens (RFC 6750). Why it is not passport-jwt's own: docs/adr/0003. */
@Injectable()
export class AccessTokenStrategy extends Strategy implements OnModuleInit {
  static readonly NAME = 'access-token';
  override readonly name = AccessTokenStrategy.NAME;

  constructor(private readonly verifier: AccessTokenVerifier) {
    super();
  }

  onModuleInit(): void {
    passport.use(this);
  }

  override authenticate(req: Request): void {
    const token = bearerToken(req);
    if (token === null) {
      const message = 'Missing or invalid Authorization header';
      this.error(
        new ServiceError('UNAUTHORIZED', message, { headers: { 'WWW-Authenticate': 'Bearer realm="orders"' } }),
      );
      return;
    }
    this.verifier.verify(token).then(
      (principal) => this.success(principal),
      (error: unknown) => this.error(error),
    );
  }
}
