const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/**
 * The part of the address space that counts as one client: an IPv4 address, or the /64 of an IPv6 address, within which
 * a host can choose any address (RFC 8981).
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
