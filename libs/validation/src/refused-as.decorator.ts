import { Reflector } from '@nestjs/core';
import type { ErrorCode } from '@platform/errors';

/** The error for a request that does not match its route's DTO. */
export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
}

/** Sets the error for requests that do not match a DTO. The default is `VALIDATION_FAILED`. */
export const RefusedAs = Reflector.createDecorator<Refusal>();

/** The error set on a DTO class, or the default. */
export function refusalOf(dto: object | undefined): Refusal {
  const refusal = dto && (Reflect.getMetadata(RefusedAs.KEY, dto) as Refusal | undefined);
  return refusal ?? { code: 'VALIDATION_FAILED', message: 'Invalid request' };
}
