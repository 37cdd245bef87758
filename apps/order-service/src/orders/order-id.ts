import { ServiceError } from '@platform/errors';
import { fromUUID, toUUID, type TypeId } from 'typeid-js';

const PREFIX = 'ord';
const ID = new RegExp(`^${PREFIX}_[0-7][0-9a-hjkmnp-tv-z]{25}$`);

/** The id as clients see it: a TypeID, `ord_…`. */
export function toOrderId(uuid: string): string {
  return fromUUID(uuid, PREFIX);
}

/** @throws {ServiceError} ORDER_NOT_FOUND if the id is not well-formed: no order can have such an id */
export function toOrderUuid(orderId: string): string {
  if (!ID.test(orderId)) throw new ServiceError('ORDER_NOT_FOUND', 'There is no such order');
  return toUUID(orderId as TypeId<typeof PREFIX>);
}
