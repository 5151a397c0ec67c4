// SPDX-License-Identifier: Apache-2.0
// Writes nftables rules in the style of kube-proxy's nftables mode: hooks, a verdict map of VIPs, one chain per Service with a
// random choice, one chain per endpoint with DNAT, and masquerading by mark. The rules are split into several scripts, because
// the time of nft 1.0.6 grows more than linearly with the size of a script. Pure; node.ts loads the scripts in a namespace.

export interface NftService {
  readonly name: string;
  readonly address: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  /** "10.244.1.1:8080" */
  readonly endpoints: readonly string[];
}

const PODS = '10.244.0.0/15';
const CHUNK = 500;

const base = `table ip kube-proxy {
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-nodeports { type inet_proto . inet_service : verdict; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  set nodeport-ips { type ipv4_addr; elements = { 10.0.0.1 }; }
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain masquerading {
    meta mark and 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain filter-prerouting { type filter hook prerouting priority -110; ct state new jump firewall-check; }
  chain filter-forward { type filter hook forward priority -110; ct state new jump service-endpoints-check; }
  chain filter-output { type filter hook output priority -110; ct state new jump firewall-check; }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
`;

function serviceText({ name, address, protocol, port, endpoints }: NftService): string {
  const chains = endpoints.map((endpoint, n) => {
    const [host = ''] = endpoint.split(':');
    return `chain endpoint-${name}-${n} { ip saddr ${host} jump mark-for-masquerade; meta l4proto ${protocol} dnat to ${endpoint}; }`;
  });
  const choice = endpoints.map((_, n) => `${n} : goto endpoint-${name}-${n}`).join(', ');
  return `${chains.join('\n')}
chain service-${name} {
  ip daddr ${address} ${protocol} dport ${port} ip saddr != ${PODS} jump mark-for-masquerade
  numgen random mod ${endpoints.length} vmap { ${choice} }
}`;
}

/** Scripts for `nft -f`, to be run in order. */
export function kubeProxyRules(services: readonly NftService[]): string[] {
  const scripts = [base];
  for (let first = 0; first < services.length; first += CHUNK) {
    const chunk = services.slice(first, first + CHUNK);
    const elements = chunk.map(({ name, address, protocol, port }) => `${address} . ${protocol} . ${port} : goto service-${name}`);
    scripts.push(`table ip kube-proxy {
${chunk.map(serviceText).join('\n')}
map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { ${elements.join(', ')} }; }
}
`);
  }
  return scripts;
}
