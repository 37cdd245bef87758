import { Reflector } from '@nestjs/core';

/** Sets the action that the audit trail records for a route: object and verb, as in `order.create`. */
export const Audited = Reflector.createDecorator<string>();
