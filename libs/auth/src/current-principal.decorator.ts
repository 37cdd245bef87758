import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { Principal } from '@platform/request-context';
import type { Request } from 'express';

/** The verified caller of a route that requires scopes. */
export const CurrentPrincipal = createParamDecorator(
  (_: unknown, context: ExecutionContext) => context.switchToHttp().getRequest<Request>().user as Principal,
);
