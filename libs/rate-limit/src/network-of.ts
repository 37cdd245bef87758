import { isIPv6, SocketAddress } from 'node:net';

const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/;

/**
 * The part of the address space that counts as one client: an IPv4 address, or the /64 of an IPv6 address, within which
 * a host can choose any address (RFC 8981).
 */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address;
  const canonical = new SocketAddress({ address, family: 'ipv6' }).address; // RFC 5952
  const ipv4 = MAPPED_IPV4.exec(canonical)?.[1];
  if (ipv4 !== undefined) return ipv4;
  const [head = [], tail] = canonical.split('::').map((part) => part.split(':').filter((group) => group !== ''));
  const gap = tail === undefined ? 0 : 8 - head.length - tail.length;
  return [...head, ...Array<string>(gap).fill('0'), ...(tail ?? [])].slice(0, 4).join(':');
}
