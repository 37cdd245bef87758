import { hasItems, type ListedOrder, pageOf } from './order-list';

const listed = (id: string, bytes: number) => ({ id, bytes, items: '[]' }) as ListedOrder;
const idsOf = (found: readonly ListedOrder[], limit: number) => {
  const { items, hasMore } = pageOf(found, limit);
  return { ids: items.map(({ id }) => id), hasMore };
};

describe('pageOf', () => {
  it.each([
    ['nothing', 0, [], false],
    ['fewer than the limit', 2, ['0', '1'], false],
    ['as many as the limit', 3, ['0', '1', '2'], false],
    ['one more', 4, ['0', '1', '2'], true],
  ])('tells of %s whether there is more', (_, count, ids, hasMore) => {
    const found = Array.from({ length: count }, (_, n) => listed(String(n), 100));
    expect(idsOf(found, 3)).toEqual({ ids, hasMore });
  });

  it('ends with the order that brings the page to 1 MiB', () => {
    const half = 524_288;
    expect(idsOf([listed('0', half), listed('1', half - 1), listed('2', 1), listed('3', 1)], 200)).toEqual({
      ids: ['0', '1', '2'],
      hasMore: true,
    });
  });

  it('has one order, however large', () => {
    expect(idsOf([listed('0', 9_000_000), listed('1', 1)], 200)).toEqual({ ids: ['0'], hasMore: true });
  });
});

describe('hasItems', () => {
  it('is false for an order whose items are yet to be read', () => {
    expect([listed('0', 2), { ...listed('1', 9_000_000), items: null }].map(hasItems)).toEqual([true, false]);
  });
});
