// SPDX-License-Identifier: Apache-2.0
// Generates random Services, slices, nodes and packets from a seed. The pools of addresses, ports and names are small, so that
// Services collide and most packets match a frontend. The result must depend on the seed only. Used for properties of the
// oracle, and in test/kernel for the comparison of the oracle with the kernel's programs.
import type { TracePacket } from '../oracle.ts';
import { cidrContains, type Family, families, familyOf } from '../../../daemon/model/address.ts';
import type { Origin } from '../../../daemon/model/explanation.ts';
import type { HostSettings } from '../../../daemon/model/host.ts';
import type { EndpointSlice, SliceEndpoint } from '../../../daemon/model/endpoint-slice.ts';
import type { Node } from '../../../daemon/model/node.ts';
import type { Protocol, Service, ServicePort, TrafficPolicy } from '../../../daemon/model/service.ts';
import { endpointRow, hostSettings, serviceRow, sliceRow } from '../builders.ts';
import { seededRandom } from '../fake-clock.ts';
import { type Cluster, clusterCidr, thisNode } from './case.ts';

interface Pools {
  readonly clusterIPs: readonly string[];
  /** External addresses. Several Services may have the same one; some belong to a node or to the Service CIDR. */
  readonly externals: readonly string[];
  readonly own: readonly string[];
  readonly localPods: readonly string[];
  readonly remotePods: readonly string[];
  readonly outside: readonly string[];
  readonly ranges: readonly string[];
}

const pools: Record<Family, Pools> = {
  IPv4: {
    clusterIPs: ['10.96.0.1', '10.96.0.2', '10.96.0.10', '10.96.1.1'],
    externals: ['192.0.2.1', '192.0.2.2', '203.0.113.5', '192.168.0.1', '10.96.0.200'],
    own: ['192.168.0.1', '10.0.0.1', '10.244.1.1'],
    localPods: ['10.244.1.2', '10.244.1.3', '10.244.1.10'],
    remotePods: ['10.244.2.2', '10.244.2.3'],
    outside: ['198.51.100.7', '198.51.100.200'],
    ranges: ['198.51.100.0/25', '10.244.0.0/16', '192.168.0.0/24', '10.244.1.2/32', '0.0.0.0/0', '203.0.113.0/24'],
  },
  IPv6: {
    clusterIPs: ['fd00:96::1', 'fd00:96::2', 'fd00:96::a'],
    externals: ['2001:db8:1::1', '2001:db8:1::2', 'fd00:1::1'],
    own: ['fd00:1::1', 'fd00:9::1'],
    localPods: ['fd00:244:0:1::2', 'fd00:244:0:1::3'],
    remotePods: ['fd00:244:0:2::2', 'fd00:244:0:2::3'],
    outside: ['2001:db8::7', '2001:db8::8000'],
    ranges: ['2001:db8::/64', 'fd00:244::/48', 'fd00:1::/64', '::/0'],
  },
};

const protocols: readonly Protocol[] = ['TCP', 'TCP', 'UDP', 'SCTP'];
const numbers = [53, 80, 30_001];
const nodePorts = [0, 30_000, 30_001, 30_002];

export interface RandomCase {
  readonly cluster: Cluster;
  readonly packets: readonly TracePacket[];
}

/** The same seed gives the same case. */
export function randomCase(seed: number, packetCount: number): RandomCase {
  const dice = new Dice(seed);
  const services = dice.list(1, 6, (n) => randomService(dice, n));
  const slices = services.flatMap(({ name }) =>
    families.flatMap((family) => dice.list(0, 2, (n) => randomSlice(dice, `${name}-${family}-${n}`, name))),
  );
  const node: Node = {
    ...thisNode,
    addresses: families.map((family) => pools[family].own[0] ?? ''),
    labels: dice.chance(0.8) ? thisNode.labels : {},
  };
  const cluster: Cluster = {
    ...{ services, slices, node, settings: randomSettings(dice) },
    localAddresses: dice.chance(0.7) ? families.flatMap((family) => pools[family].own) : [],
    serviceCIDRs: dice.some(['10.96.0.0/24', 'fd00:96::/112']),
  };
  const own = new Set([...node.addresses, ...(cluster.localAddresses ?? [])]);
  const targets = targetsOf(services, own);
  return { cluster, packets: Array.from({ length: packetCount }, () => randomPacket(dice, { node, own, targets })) };
}

class Dice {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = seededRandom(seed);
  }

  chance(share: number): boolean {
    return this.#next() < share;
  }

  pick<T>(from: readonly T[]): T {
    const found = from[Math.floor(this.#next() * from.length)];
    if (found === undefined) throw new Error('cannot pick from an empty list');
    return found;
  }

  /** Returns each element with a probability of 0.5. */
  some<T>(from: readonly T[]): T[] {
    return from.filter(() => this.chance(0.5));
  }

  /** Returns no element with a probability of 0.5, otherwise each element with a probability of 0.4. */
  seldom<T>(from: readonly T[]): T[] {
    return this.chance(0.5) ? [] : from.filter(() => this.chance(0.4));
  }

  list<T>(least: number, most: number, make: (n: number) => T): T[] {
    return Array.from({ length: least + Math.floor(this.#next() * (most - least + 1)) }, (_, n) => make(n));
  }
}

function randomService(dice: Dice, n: number): Service {
  const policy = (): TrafficPolicy => dice.pick(['Cluster', 'Cluster', 'Local']);
  const every = (of: (pool: Pools) => readonly string[]): string[] => families.flatMap((family) => dice.seldom(of(pools[family])));
  const clusterIPs = Object.fromEntries(
    families.filter(() => dice.chance(0.8)).map((family) => [family, dice.pick(pools[family].clusterIPs)]),
  );
  const ports = dice.list(0, 3, (at): ServicePort => {
    return { name: `p${at}`, protocol: dice.pick(protocols), port: dice.pick(numbers), nodePort: dice.pick(nodePorts) };
  });
  const isDistinct = (port: ServicePort, at: number): boolean =>
    ports.findIndex((each) => each.port === port.port && each.protocol === port.protocol) === at;
  return serviceRow({
    ...{ name: `s${n}`, created: dice.pick([0, 1000, 2000]), type: dice.pick(['ClusterIP', 'NodePort', 'LoadBalancer']), clusterIPs },
    ...{ ports: ports.filter(isDistinct), externalIPs: every((pool) => pool.externals), loadBalancerIPs: every((pool) => pool.externals) },
    ...{
      sourceRanges: every((pool) => pool.ranges),
      internalPolicy: policy(),
      externalPolicy: policy(),
      affinitySeconds: dice.pick([0, 0, 60]),
    },
  });
}

function randomSlice(dice: Dice, name: string, service: string): EndpointSlice {
  const family = name.includes('IPv6') ? 'IPv6' : 'IPv4';
  const { localPods, remotePods } = pools[family];
  const areHinted = dice.chance(0.5);
  const endpoint = (): SliceEndpoint => {
    const isLocal = dice.chance(0.5);
    const [ready, terminating, serving] = [dice.chance(0.6), dice.chance(0.3), dice.chance(0.7)];
    return endpointRow(dice.pick(isLocal ? localPods : remotePods), {
      ...{ ready, terminating, serving, nodeName: isLocal ? 'node-1' : 'node-2' },
      ...(areHinted && dice.chance(0.9) ? { zoneHints: [dice.pick(['a', 'a', 'b'])] } : {}),
      ...(areHinted && dice.chance(0.3) ? { nodeHints: [dice.pick(['node-1', 'node-2'])] } : {}),
    });
  };
  const ports = ['p0', 'p1', 'p2'].flatMap((port) =>
    protocols.slice(1).map((protocol) => ({ name: port, protocol, port: dice.pick([8080, 9090]) })),
  );
  return sliceRow({
    name: name.toLowerCase(),
    service,
    family,
    ports: ports.filter(() => dice.chance(0.8)),
    endpoints: dice.list(0, 4, endpoint),
  });
}

function randomSettings(dice: Dice): HostSettings {
  return hostSettings({
    clusterCidr: dice.chance(0.8) ? clusterCidr : dice.some(clusterCidr),
    detectLocalMode: dice.pick(['ClusterCIDR', 'ClusterCIDR', 'NodeCIDR', 'InterfaceNamePrefix', 'none']),
    masqueradeAll: dice.chance(0.2),
    nodePortAddresses: dice.pick<HostSettings['nodePortAddresses']>(['primary', 'all', ['10.0.0.0/8'], ['0.0.0.0/0', 'fd00:9::/64']]),
    serviceCidr: dice.chance(0.2) ? ['10.97.0.0/16'] : [],
  });
}

interface Target {
  readonly destIP: string;
  readonly destPort: number;
  readonly protocol: Protocol;
}

/** Every destination that a Service claims, even if another Service owns it. */
function targetsOf(services: readonly Service[], own: ReadonlySet<string>): Target[] {
  return services.flatMap(({ clusterIPs, externalIPs, loadBalancerIPs, ports }) =>
    ports.flatMap(({ port, nodePort, protocol }) => [
      ...[...Object.values(clusterIPs), ...externalIPs, ...loadBalancerIPs].map((destIP) => ({ destIP, destPort: port, protocol })),
      ...(nodePort === 0 ? [] : [...own].map((destIP) => ({ destIP, destPort: nodePort, protocol }))),
    ]),
  );
}

/** Two of three packets go to a target, the others to a random destination. */
function randomPacket(
  dice: Dice,
  { node, own, targets }: { node: Node; own: ReadonlySet<string>; targets: readonly Target[] },
): TracePacket {
  const any = (): Target => {
    const pool = pools[dice.pick(families)];
    const destIP = dice.pick(dice.pick([pool.clusterIPs, pool.externals, pool.own, pool.remotePods]));
    return { destIP, destPort: dice.pick([...numbers, ...nodePorts.slice(1), 81]), protocol: dice.pick(protocols) };
  };
  const target = targets.length > 0 && dice.chance(0.67) ? dice.pick(targets) : any();
  const { localPods, remotePods, own: nodes, outside, externals } = pools[familyOf(target.destIP)];
  const sourceIP = dice.pick(dice.pick([localPods, remotePods, nodes, outside, externals.slice(0, 3)]));
  const isPod = node.podCIDRs.some((cidr) => cidrContains(cidr, sourceIP));
  const from: Origin = own.has(sourceIP) ? 'node' : isPod ? 'pod' : 'external';
  return { ...target, sourceIP, sourcePort: 1024 + dice.pick(numbers), from };
}
