const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/**
 * What one client has of the address space: an IPv4 address whole, and the first 64 bits of an IPv6 address, as within
 * its /64 a host takes whichever it likes (RFC 8981).
 */
export function networkOf(address: string): string {
  const ipv4 = MAPPED_IPV4.exec(address)?.[1];
  if (ipv4 !== undefined) return ipv4;
  if (!address.includes(':')) return address;
  const [head, tail] = address.split('::').map((part) => part.split(':').filter((group) => group !== ''));
  const groups = head ?? [];
  const gap = tail === undefined ? 0 : Math.max(8 - groups.length - tail.length, 0);
  return [...groups, ...Array<string>(gap).fill('0'), ...(tail ?? [])]
    .slice(0, 4)
    .map((group) => parseInt(group, 16).toString(16))
    .join(':');
}
