import { hasItems, type ListedOrder, pageOf } from './order-list';

const listed = (id: string, bytes: number) => ({ id, bytes, items: '[]' }) as ListedOrder;
const idsOf = (found: readonly ListedOrder[], limit: number) => {
  const { items, nextBeforeId } = pageOf(found, limit);
  return { ids: items.map(({ id }) => id), nextBeforeId };
};

describe('pageOf', () => {
  it.each([
    ['nothing', 0, [], undefined],
    ['fewer than the limit', 2, ['0', '1'], undefined],
    ['as many as the limit', 3, ['0', '1', '2'], undefined],
    ['one more', 4, ['0', '1', '2'], '2'],
  ])('tells of %s whether there is more', (_, count, ids, nextBeforeId) => {
    const found = Array.from({ length: count }, (_, n) => listed(String(n), 100));
    expect(idsOf(found, 3)).toEqual({ ids, nextBeforeId });
  });

  it('ends with the order that brings the page to 1 MiB', () => {
    const half = 524_288;
    expect(idsOf([listed('0', half), listed('1', half - 1), listed('2', 1), listed('3', 1)], 200)).toEqual({
      ids: ['0', '1', '2'],
      nextBeforeId: '2',
    });
  });

  it('has one order, however large', () => {
    expect(idsOf([listed('0', 9_000_000), listed('1', 1)], 200)).toEqual({ ids: ['0'], nextBeforeId: '0' });
  });
});

describe('hasItems', () => {
  it('is false for an order whose items are yet to be read', () => {
    expect([listed('0', 2), { ...listed('1', 9_000_000), items: null }].map(hasItems)).toEqual([true, false]);
  });
});
