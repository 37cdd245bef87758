import { isIP } from 'node:net';

/**
 * The IP address that a proxy or a socket names.
 * @param named as it came: some proxies write a port behind it
 * @param peer whose connection it is: the answer where nothing that was named is an address
 */
export function clientAddress(named: string | undefined, peer: string | undefined): string | undefined {
  const bare = named?.replace(/^\[([^\]]+)\](:\d+)?$/, '$1').replace(/^([\d.]+):\d+$/, '$1') ?? '';
  return isIP(bare) ? bare : peer;
}
