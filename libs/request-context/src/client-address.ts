import { isIP } from 'node:net';

/**
 * The client's IP address.
 * @param named address as a proxy forwarded it, perhaps with a port
 * @param peer address of the connection's peer, used if `named` is no address
 */
export function clientAddress(named: string | undefined, peer: string | undefined): string | undefined {
  const bare = named?.replace(/^\[([^\]]+)\](:\d+)?$/, '$1').replace(/^([\d.]+):\d+$/, '$1') ?? '';
  return isIP(bare) ? bare : peer;
}
