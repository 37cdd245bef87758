import { Module } from '@nestjs/common';
import { APP_GUARD, DiscoveryModule } from '@nestjs/core';
import { RateLimitModule } from '@platform/rate-limit';
import { makeCounterProvider } from '@willsoto/nestjs-prometheus';
import { AccessTokenGuard } from './access-token.guard';
import { AccessTokenStrategy } from './access-token.strategy';
import { AccessTokenVerifier } from './access-token-verifier';
import { RouteAccessCheck } from './route-access.check';
import { SigningKeys } from './signing-keys';

/** Authenticates and authorises all requests of the application that imports it. */
@Module({
  imports: [DiscoveryModule, RateLimitModule],
  providers: [
    SigningKeys,
    AccessTokenVerifier,
    AccessTokenStrategy,
    RouteAccessCheck,
    { provide: APP_GUARD, useClass: AccessTokenGuard },
    makeCounterProvider({
      name: 'auth_failures_total',
      help: 'Calls refused for lack of a good token or of a scope',
      labelNames: ['reason'],
    }),
    makeCounterProvider({
      name: 'token_cache_requests_total',
      help: 'Tokens that were known from an earlier verification (hit), and those that were not (miss)',
      labelNames: ['outcome'],
    }),
    makeCounterProvider({
      name: 'jwks_fetches_total',
      help: "Fetches of the identity provider's keys, discovery included (success, failure)",
      labelNames: ['outcome'],
    }),
  ],
  exports: [SigningKeys, AccessTokenVerifier],
})
export class AuthModule {}
