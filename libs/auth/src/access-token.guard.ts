import { type ExecutionContext, Inject, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { AuthGuard } from '@nestjs/passport';
import { CONFIG, type Config } from '@platform/config';
import { ServiceError } from '@platform/errors';
import { CertificateRefused, ClientCertificates } from '@platform/mtls';
import { ClientRateLimit, FailedAuthentications } from '@platform/rate-limit';
import { currentContext, type Principal } from '@platform/request-context';
import { InjectMetric } from '@willsoto/nestjs-prometheus';
import type { Request, Response } from 'express';
import type { Counter } from 'prom-client';
import { AccessTokenStrategy, bearerTokenOf } from './access-token.strategy';
import { AccessTokenVerifier } from './access-token-verifier';
import { requireCertificate } from './certificate-binding';
import { type AuthFailureReason, InvalidToken } from './invalid-token';
import { ROUTE_ACCESS, type RouteAccess } from './route-access.decorators';

/**
 * Admits a request if its route is public. Otherwise its certificate and token have to be valid and belong together,
 * its client has to be within its rate limit, and the token has to have the route's scopes.
 */
@Injectable()
export class AccessTokenGuard extends AuthGuard(AccessTokenStrategy.NAME) {
  constructor(
    private readonly reflector: Reflector,
    private readonly verifier: AccessTokenVerifier,
    private readonly clientRateLimit: ClientRateLimit,
    private readonly failedAuthentications: FailedAuthentications,
    private readonly certificates: ClientCertificates,
    @Inject(CONFIG) private readonly config: Config,
    @InjectMetric('auth_failures_total') private readonly failures: Counter<'reason'>,
  ) {
    super();
  }

  override async canActivate(context: ExecutionContext): Promise<boolean> {
    // Event handlers are called by our own transport, not by a client.
    if (context.getType() !== 'http') return true;
    const targets = [context.getHandler(), context.getClass()];
    const access = this.reflector.getAllAndOverride<RouteAccess>(ROUTE_ACCESS, targets);
    if (access === 'public') return true;
    const res = context.switchToHttp().getResponse<Response>();
    res.setHeader('Cache-Control', 'no-store');
    try {
      const requestContext = currentContext();
      const req = context.switchToHttp().getRequest<Request>();
      const certificate = this.certificates.of(req);
      if (requestContext) requestContext.certificate = certificate;
      const token = bearerTokenOf(req);
      const known = token && this.verifier.recall(token);
      if (known) req.user = known;
      else await super.canActivate(context);
      const principal = req.user as Principal;
      // Before the principal is set: a bound token without its certificate must not count as its client's.
      requireCertificate(principal, certificate, this.config.mtls);
      if (requestContext) requestContext.principal = principal;
      // Before the scopes are checked, so that calls without them count too.
      res.set(await this.clientRateLimit.admit(principal));
      requireScopes(access, principal);
      return true;
    } catch (error) {
      const reason = failureOf(error);
      if (reason) this.failures.inc({ reason });
      res.locals['authFailure'] = reason;
      const address = currentContext()?.address;
      // A cached token has passed no limit yet, and it may have come without its certificate.
      if (isAboutCertificate(error)) this.failedAuthentications.assertWithinLimit(address);
      if (isBadCredential(error)) this.failedAuthentications.count(address);
      throw error;
    }
  }
}

function isAboutCertificate(error: unknown): boolean {
  return (
    error instanceof CertificateRefused || (error instanceof InvalidToken && error.reason.startsWith('certificate_'))
  );
}

/** An unknown key may have just been published: its clients must not be locked out, so it does not count. */
function isBadCredential(error: unknown): boolean {
  return error instanceof CertificateRefused || (error instanceof InvalidToken && error.reason !== 'unknown_key');
}

function requireScopes(required: readonly string[], principal: Principal): void {
  const missing = required.filter((scope) => !principal.scopes.has(scope));
  if (missing.length === 0) return;
  throw new ServiceError('INSUFFICIENT_SCOPE', `Missing required scopes: ${missing.join(', ')}`, {
    details: missing.map((scope) => ({ field: 'scope', message: scope })),
    headers: { 'WWW-Authenticate': `Bearer error="insufficient_scope", scope="${required.join(' ')}"` },
  });
}

function failureOf(error: unknown): AuthFailureReason | undefined {
  if (error instanceof InvalidToken || error instanceof CertificateRefused) return error.reason;
  if (!(error instanceof ServiceError)) return undefined;
  if (error.code === 'UNAUTHORIZED') return 'missing';
  return error.code === 'INSUFFICIENT_SCOPE' ? 'insufficient_scope' : undefined;
}
