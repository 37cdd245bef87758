import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { currentContext } from '@platform/request-context';
import { Audited } from './audited.decorator';

/** Notes what a request is about to do. Stands before the guards that may refuse it, so that refusals have a name. */
@Injectable()
export class AuditActionGuard implements CanActivate {
  constructor(private readonly reflector: Reflector) {}

  canActivate(context: ExecutionContext): boolean {
    const work = currentContext();
    // A route that nobody has named yet is written down under the name of its code.
    const { name } = context.getHandler();
    if (work) work.action = this.reflector.get(Audited, context.getHandler()) ?? `${context.getClass().name}.${name}`;
    return true;
  }
}
