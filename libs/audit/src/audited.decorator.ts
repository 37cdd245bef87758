import { Reflector } from '@nestjs/core';

/** Names what a route does in the audit trail: object and verb, as in `order.create`. */
export const Audited = Reflector.createDecorator<string>();
