import { randomHex } from './random-hex';

describe('randomHex', () => {
  it.each([1, 16, 32, 4_096])('gives %d digits', (digits) => {
    expect(randomHex(digits)).toMatch(new RegExp(`^[0-9a-f]{${digits}}$`));
  });

  it('never gives the same digits again', () => {
    const all = Array.from({ length: 10_000 }, (_, index) => randomHex(16 + (index % 17)));
    expect(new Set(all.map((one) => one.slice(0, 16))).size).toBe(10_000);
  });

  it('gives every digit as often as any other', () => {
    const counts = new Map<string, number>();
    for (const digit of Array.from({ length: 2_000 }, () => randomHex(32)).join('')) {
      counts.set(digit, (counts.get(digit) ?? 0) + 1);
    }
    expect([...counts.keys()].sort().join('')).toBe('0123456789abcdef');
    for (const count of counts.values()) expect(Math.abs(count - 4_000)).toBeLessThan(500); // 8 standard deviations
  });
});
