// SPDX-License-Identifier: Apache-2.0
// The control: nftables rules in the style of kube-proxy's nftables mode, for both address families, ClusterIPs, NodePorts and load
// balancer addresses, and both external traffic policies. test/bench/nft.ts writes rules for many Services of one family instead.
// Pure; world.ts loads the rules.

type Family = 'IPv4' | 'IPv6';
export type Addresses = Readonly<Record<Family, string>>;

export interface ServicePort {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  readonly nodePort: number;
  readonly targetPort: number;
}

/** A Service with one endpoint. */
export interface Service {
  readonly name: string;
  readonly clusterIP: Addresses;
  readonly loadBalancer: Addresses;
  readonly isLocal: boolean;
  readonly endpoint: Addresses;
  /** True if the endpoint is on this node. */
  readonly isHere: boolean;
  readonly ports: readonly ServicePort[];
}

export const podCidrs: Addresses = { IPv4: '10.244.0.0/16', IPv6: 'fd00:244::/32' };

const base = (ip: string, nodePortAddress: string): string => `
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat;
    meta mark and 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
  chain services {
    ${ip} daddr . meta l4proto . th dport vmap @service-ips
    ${ip} daddr ${nodePortAddress} meta l4proto . th dport vmap @service-nodeports
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }`;

/** The chains of one port: to its endpoint, of its ClusterIP, and of its external addresses. */
function chainsOf(
  { name, clusterIP, isLocal, isHere, endpoint }: Service,
  { protocol, port, targetPort }: ServicePort,
  family: Family,
): string {
  const ip = family === 'IPv4' ? 'ip' : 'ip6';
  const id = `${name}-${protocol}`;
  const to = family === 'IPv4' ? `${endpoint.IPv4}:${targetPort}` : `[${endpoint.IPv6}]:${targetPort}`;
  const policy = isLocal
    ? `${ip} saddr ${podCidrs[family]} goto service-${id}
    fib saddr type local jump mark-for-masquerade
    fib saddr type local goto service-${id}
    ${isHere ? `goto endpoint-${id}` : 'drop'}`
    : `jump mark-for-masquerade
    goto service-${id}`;
  return `
  chain endpoint-${id} {
    ${ip} saddr ${endpoint[family]} jump mark-for-masquerade
    meta l4proto ${protocol} dnat to ${to}
  }
  chain service-${id} {
    ${ip} daddr ${clusterIP[family]} ${protocol} dport ${port} ${ip} saddr != ${podCidrs[family]} jump mark-for-masquerade
    numgen random mod 1 vmap { 0 : goto endpoint-${id} }
  }
  chain external-${id} {
    ${policy}
  }`;
}

function tableOf(services: readonly Service[], nodePort: Addresses, family: Family): string {
  const [ip, type] = family === 'IPv4' ? ['ip', 'ipv4_addr'] : ['ip6', 'ipv6_addr'];
  const ports = services.flatMap((service) => service.ports.map((port) => ({ service, port, id: `${service.name}-${port.protocol}` })));
  const addresses = ports.flatMap(({ service, port, id }) => [
    `${service.clusterIP[family]} . ${port.protocol} . ${port.port} : goto service-${id}`,
    `${service.loadBalancer[family]} . ${port.protocol} . ${port.port} : goto external-${id}`,
  ]);
  const nodePorts = ports.map(({ port, id }) => `${port.protocol} . ${port.nodePort} : goto external-${id}`);
  // A chain must exist before a rule names it.
  const chains = ports.map(({ service, port }) => chainsOf(service, port, family));
  return `table ${ip} kube-proxy {
  map service-ips { type ${type} . inet_proto . inet_service : verdict; elements = { ${addresses.join(', ')} }; }
  map service-nodeports { type inet_proto . inet_service : verdict; elements = { ${nodePorts.join(', ')} }; }
${chains.join('')}
${base(ip, nodePort[family])}
}
`;
}

/** The rules as commands of nft. `nodePort`: the address of the node that serves NodePorts. */
export function kubeProxyRules(services: readonly Service[], nodePort: Addresses): string {
  return tableOf(services, nodePort, 'IPv4') + tableOf(services, nodePort, 'IPv6');
}
