import { ORDER_STATUSES, ORDER_TRANSITIONS, type OrderStatus } from './order-status';

/** Section 1 of the contract. */
const ALLOWED = ['PENDING → CONFIRMED', 'PENDING → REJECTED', 'PENDING → CANCELLED', 'CONFIRMED → CANCELLED'];

const STATUSES = ['PENDING', 'CONFIRMED', 'REJECTED', 'CANCELLED'] as const;
const moves = STATUSES.flatMap((from) => STATUSES.map((to) => [from, to] as const));

describe('ORDER_STATUSES', () => {
  it('names the statuses of the contract', () => {
    expect(ORDER_STATUSES).toEqual(STATUSES);
  });
});

describe('ORDER_TRANSITIONS', () => {
  const may = (from: OrderStatus, to: OrderStatus) => (ORDER_TRANSITIONS[from] as readonly OrderStatus[]).includes(to);

  it.each(moves.filter(([from, to]) => ALLOWED.includes(`${from} → ${to}`)))('lets %s go to %s', (from, to) => {
    expect(may(from, to)).toBe(true);
  });

  it.each(moves.filter(([from, to]) => !ALLOWED.includes(`${from} → ${to}`)))('keeps %s from %s', (from, to) => {
    expect(may(from, to)).toBe(false);
  });

  it('has nothing else', () => {
    const table = Object.entries(ORDER_TRANSITIONS).flatMap(([from, targets]) =>
      targets.map((to) => `${from} → ${to}`),
    );
    expect(table).toEqual(ALLOWED);
  });
});
