import { Reflector } from '@nestjs/core';
import type { ErrorCode } from '@platform/errors';

/** How a request is refused that does not fit what its route asks for. */
export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
}

/** Says on a DTO how a request that does not fit it is refused; `VALIDATION_FAILED` without it. */
export const RefusedAs = Reflector.createDecorator<Refusal>();

/** The refusal that a DTO class names. */
export function refusalOf(dto: object | undefined): Refusal {
  const refusal = dto && (Reflect.getMetadata(RefusedAs.KEY, dto) as Refusal | undefined);
  return refusal ?? { code: 'VALIDATION_FAILED', message: 'Invalid request' };
}
