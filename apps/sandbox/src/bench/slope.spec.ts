import { slope } from './slope';

describe('slope', () => {
  it('is the step of a straight line', () => {
    expect(slope([10, 12.5, 15, 17.5])).toBeCloseTo(2.5);
    expect(slope([3, 3, 3])).toBe(0);
  });

  it('fits a line to values that scatter', () => {
    expect(slope([0, 3, 1, 4])).toBeCloseTo(1); // by hand: Σ(x-1.5)(y-2) / Σ(x-1.5)² = 5 / 5
  });
});
