import { ServiceError } from '@platform/errors';
import { newTimeId } from '@platform/ids';
import { toOrderId, toOrderUuid } from './order-id';

/** The example of RFC 9562, appendix A.6: 2022-02-22T14:22:22.000-05:00. */
const RFC_UUID = '017f22e2-79b0-7cc3-98c4-dc0c0c07398f';

describe('toOrderId', () => {
  it('writes a TypeID', () => {
    expect(toOrderId(RFC_UUID)).toMatch(/^ord_[0-7][0-9a-hjkmnp-tv-z]{25}$/);
  });

  it('keeps the order of creation', () => {
    const ids = Array.from({ length: 500 }, () => toOrderId(newTimeId()));
    expect([...ids].sort()).toEqual(ids);
    expect(new Set(ids).size).toBe(500);
  });
});

describe('toOrderUuid', () => {
  it.each([RFC_UUID, '00000000-0000-7000-8000-000000000000', 'ffffffff-ffff-7fff-bfff-ffffffffffff'])(
    'returns the UUID that toOrderId wrote: %s',
    (uuid) => {
      expect(toOrderUuid(toOrderId(uuid))).toBe(uuid);
    },
  );

  it.each([
    ['nothing', ''],
    ['a prefix alone', 'ord_'],
    ['a word', 'ord_x'],
    ['a UUID', RFC_UUID],
    ['no prefix', toOrderId(RFC_UUID).slice('ord_'.length)],
    ['another prefix', toOrderId(RFC_UUID).replace('ord_', 'evt_')],
    ['a longer prefix', `x${toOrderId(RFC_UUID)}`],
    ['upper case', toOrderId(RFC_UUID).toUpperCase()],
    ['a digit too few', toOrderId(RFC_UUID).slice(0, -1)],
    ['a digit too many', `${toOrderId(RFC_UUID)}0`],
    ['white space', `${toOrderId(RFC_UUID)} `],
    ['a letter that base 32 leaves out', toOrderId(RFC_UUID).slice(0, -1) + 'u'],
    ['more than 128 bits', `ord_8${'z'.repeat(25)}`],
    ['a statement', "ord_' OR 1=1 --"],
  ])('refuses %s with ORDER_NOT_FOUND', (_, orderId) => {
    const parse = () => toOrderUuid(orderId);
    expect(parse).toThrow(ServiceError);
    expect(parse).toThrow(expect.objectContaining({ code: 'ORDER_NOT_FOUND', message: 'There is no such order' }));
  });
});
