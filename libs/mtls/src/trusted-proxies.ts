import { BlockList, isIP } from 'node:net';

/** The proxies (`TRUSTED_PROXIES`) whose headers about the client are believed. */
export class TrustedProxies {
  private readonly networks = new BlockList();

  /** @param networks IPv4 and IPv6 addresses and CIDRs */
  constructor(networks: readonly string[]) {
    for (const network of networks) {
      const [address = '', prefix] = network.split('/');
      const family = familyOf(address);
      if (prefix === undefined) this.networks.addAddress(address, family);
      else this.networks.addSubnet(address, Number(prefix), family);
    }
  }

  /** @param address the peer's address; IPv4 may be IPv6-mapped (`::ffff:10.0.0.1`). Anything else is not trusted. */
  has(address: string | undefined): boolean {
    return address !== undefined && isIP(address) !== 0 && this.networks.check(address, familyOf(address));
  }
}

const familyOf = (address: string) => (isIP(address) === 6 ? 'ipv6' : 'ipv4');
