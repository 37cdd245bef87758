import { pseudonymOf } from './pseudonym';

describe('pseudonymOf', () => {
  const pseudonym = pseudonymOf('key', 'acme', 'cust_123');

  it('is the same for the same customer', () => {
    expect(pseudonym).toMatch(/^erased_[0-9a-f]{32}$/);
    expect(pseudonymOf('key', 'acme', 'cust_123')).toBe(pseudonym);
  });

  it.each([
    ['another key', pseudonymOf('other', 'acme', 'cust_123')],
    ['another tenant', pseudonymOf('key', 'globex', 'cust_123')],
    ['another customer', pseudonymOf('key', 'acme', 'cust_124')],
    ['the same letters, cut elsewhere', pseudonymOf('key', 'acmec', 'ust_123')],
  ])('is another for %s', (_, other) => {
    expect(other).not.toBe(pseudonym);
  });
});
