import { clientAddress } from './client-address';

describe('clientAddress', () => {
  it.each([
    ['203.0.113.7', '203.0.113.7'],
    ['203.0.113.7:50001', '203.0.113.7'],
    ['2001:db8::1', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:50001', '2001:db8::1'],
    ['::ffff:203.0.113.7', '::ffff:203.0.113.7'],
  ])('is %s without its port', (named, address) => {
    expect(clientAddress(named, '127.0.0.1')).toBe(address);
  });

  it.each([undefined, '', 'unknown', '_hidden', '203.0.113', '1.2.3.4, 5.6.7.8', '203.0.113.7:x', 'x'.repeat(10_000)])(
    'is the peer’s where %p was named',
    (named) => {
      expect(clientAddress(named, '127.0.0.1')).toBe('127.0.0.1');
    },
  );
});
