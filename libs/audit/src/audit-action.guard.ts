import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { currentContext } from '@platform/request-context';
import { Audited } from './audited.decorator';

/** Puts a request's action into its context, before any guard can refuse the request, so that refusals have a name. */
@Injectable()
export class AuditActionGuard implements CanActivate {
  constructor(private readonly reflector: Reflector) {}

  canActivate(context: ExecutionContext): boolean {
    const requestContext = currentContext();
    if (!requestContext) return true;
    // Without `@Audited` the action is the controller's and method's name.
    const { name } = context.getHandler();
    requestContext.action = this.reflector.get(Audited, context.getHandler()) ?? `${context.getClass().name}.${name}`;
    return true;
  }
}
