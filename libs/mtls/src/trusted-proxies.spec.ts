import { TrustedProxies } from './trusted-proxies';

describe('TrustedProxies', () => {
  const proxies = new TrustedProxies(['10.0.0.0/8', '192.0.2.1', 'fd00::/8', '2001:db8::1']);

  it.each(['10.1.2.3', '::ffff:10.1.2.3', '::ffff:a01:203', '192.0.2.1', 'fd12::1', '2001:db8:0::1'])(
    'has %s',
    (address) => expect(proxies.has(address)).toBe(true),
  );

  it.each([
    '11.0.0.1',
    '192.0.2.2',
    '::ffff:11.0.0.1',
    '::10.1.2.3',
    'fe80::1',
    '2001:db8::2',
    '10.1',
    '',
    'unknown',
    undefined,
  ])('has not %p', (address) => expect(proxies.has(address)).toBe(false));

  it('trusts nobody by default', () => {
    expect(new TrustedProxies([]).has('127.0.0.1')).toBe(false);
  });
});
