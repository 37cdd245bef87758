import { BlockList, isIP } from 'node:net';

/** The proxies whose word on who calls is taken: `TRUSTED_PROXIES`. */
export class TrustedProxies {
  private readonly networks = new BlockList();

  /** @param networks IP addresses and CIDRs, of IPv4 and IPv6 */
  constructor(networks: readonly string[]) {
    for (const network of networks) {
      const [address = '', prefix] = network.split('/');
      const family = familyOf(address);
      if (prefix === undefined) this.networks.addAddress(address, family);
      else this.networks.addSubnet(address, Number(prefix), family);
    }
  }

  /** @param address of the peer, also an IPv4 address as IPv6 has it (`::ffff:10.0.0.1`); anything else is not trusted */
  has(address: string | undefined): boolean {
    return address !== undefined && isIP(address) !== 0 && this.networks.check(address, familyOf(address));
  }
}

const familyOf = (address: string) => (isIP(address) === 6 ? 'ipv6' : 'ipv4');
