// SPDX-License-Identifier: Apache-2.0
// Counts packets with nftables in a namespace outside of the nodes, and can set a small TTL in packets that the namespace sends. The
// kernel counts. This module must not depend on Sluice. Used by netns tests.
import type { Lab } from './lab.ts';

export class Witness {
  readonly #lab: Lab;
  readonly #netns: string;

  /** `rules`: for each counter, the nft match of the incoming packets that it counts. */
  constructor(lab: Lab, netns: string, rules: Readonly<Record<string, string>>) {
    this.#lab = lab;
    this.#netns = netns;
    this.#nft(
      'add table inet witness',
      'add chain inet witness incoming { type filter hook prerouting priority -400; }',
      'add chain inet witness outgoing { type filter hook output priority -400; }',
      ...Object.entries(rules).flatMap(([name, rule]) => [
        `add counter inet witness ${name}`,
        `add rule inet witness incoming ${rule} counter name ${name}`,
      ]),
    );
  }

  /** Sets the TTL, or hop limit, of packets that this namespace sends to a port. Undefined restores the default. */
  expire(ttl: number | undefined, port = 0): void {
    this.#nft('flush chain inet witness outgoing');
    if (ttl === undefined) return;
    for (const family of ['meta nfproto ipv4', 'meta nfproto ipv6']) {
      const field = family.endsWith('4') ? 'ip ttl' : 'ip6 hoplimit';
      this.#nft(`add rule inet witness outgoing ${family} meta l4proto { tcp, udp } th dport ${port} ${field} set ${ttl}`);
    }
  }

  /** Packets by counter since the last call. Counters of 0 are omitted. */
  take(): Record<string, number> {
    const { nftables } = JSON.parse(this.#lab.run(this.#netns, 'nft', '-j', 'reset', 'counters', 'table', 'inet', 'witness')) as {
      nftables: { counter?: { name: string; packets: number } }[];
    };
    const counters = nftables.flatMap(({ counter }) => (counter === undefined || counter.packets === 0 ? [] : [counter]));
    return Object.fromEntries(counters.map(({ name, packets }) => [name, packets]));
  }

  /** Waits until a packet is counted. On a busy machine an ICMP error may arrive after its client has given up. */
  async heard(): Promise<Record<string, number>> {
    for (const until = performance.now() + 10_000; performance.now() < until; await new Promise((resolve) => setTimeout(resolve, 10))) {
      const counted = this.take();
      if (Object.keys(counted).length > 0) return counted;
    }
    return {};
  }

  close(): void {
    this.#nft('delete table inet witness');
  }

  #nft(...commands: readonly string[]): void {
    this.#lab.run(this.#netns, 'nft', commands.join('; '));
  }
}

/** The nftables rule that matches a "time exceeded" error of that hop about a packet to the frontend. */
export function timeExceeded(hop: string, address: string, port: number): string {
  if (!address.includes(':')) {
    const value = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
    return `ip saddr ${hop} icmp type time-exceeded @nh,352,32 ${value} @nh,400,16 ${port}`;
  }
  const hex = (half: string): string =>
    half
      .split(':')
      .map((word) => word.padStart(4, '0'))
      .join('');
  const [head = '', tail = ''] = address.split('::').map(hex);
  const value = `0x${head}${'0'.repeat(32 - head.length - tail.length)}${tail}`;
  return `ip6 saddr ${hop} icmpv6 type time-exceeded @nh,576,128 ${value} @nh,720,16 ${port}`;
}
