// SPDX-License-Identifier: Apache-2.0
// The packet oracle: what should happen to the first packet of a flow, said from the desired rows alone, in the order of
// kube-proxy-semantics.md. Packet tables run through it and through the kernel, and both must agree. It must stay simpler
// than the datapath that it judges: linear walks, no index, no state.
import { type Address, cidrContains, hostPort, parseAddress } from '../../daemon/model/address.ts';
import type { Origin } from '../../daemon/model/explanation.ts';
import {
  type AddressSet,
  type DesiredHost,
  type DesiredPort,
  type DesiredRange,
  type Frontend,
  frontendKey,
} from '../../daemon/model/frontend.ts';
import type { Protocol, TrafficPolicy } from '../../daemon/model/service.ts';

export interface TracePacket {
  readonly protocol: Protocol;
  readonly sourceIP: string;
  readonly sourcePort: number;
  readonly destIP: string;
  readonly destPort: number;
  /** Asked only where pods are told by their interface; addresses decide everything else. */
  readonly from?: Origin;
  /** The interface it came from, when known. */
  readonly iface?: string;
}

/** Rows as they come or as a map of them. */
type Rows<Row> = Iterable<Row> | ReadonlyMap<string, Row>;

export interface TraceWorld {
  readonly ports: Rows<DesiredPort>;
  /** Without any, no source is the node's or a local pod's. */
  readonly host?: DesiredHost;
  /** The address sets. */
  readonly ranges?: Rows<DesiredRange>;
  /** Prefixes of the names of interfaces that lead to pods. */
  readonly podInterfaces?: readonly string[];
}

export interface Trace {
  /** NONE: not ours, the packet passes untouched. */
  readonly verdict: 'DNAT' | 'REJECT' | 'DROP' | 'NONE';
  readonly frontend?: Frontend;
  /** Key of the desired port; there whenever a frontend is. */
  readonly port?: string;
  /** Which of the two sets of backends was asked. */
  readonly set?: TrafficPolicy;
  /** Every backend it may go to, as "address:port" by address value and port; empty unless DNAT. */
  readonly candidates: readonly string[];
  /** Its source becomes the node's address whichever backend it gets. */
  readonly masquerade: boolean;
  /** The candidates that are the source itself: there the source is rewritten in any case. */
  readonly hairpin: readonly string[];
  /** One sentence. */
  readonly reason: string;
}

/** What the sets of addresses say about the packet. */
interface Source {
  readonly ip: string;
  readonly isPod: boolean;
  readonly isNode: boolean;
  readonly hasDetector: boolean;
  readonly masqueradeAll: boolean;
}

const verdictOnly = (verdict: 'REJECT' | 'DROP' | 'NONE', reason: string): Trace => ({
  ...{ verdict, candidates: [], masquerade: false, hairpin: [], reason },
});

/** Follows one packet through the desired rows. */
export function trace(world: TraceWorld, packet: TracePacket): Trace {
  const destination = parseAddress(packet.destIP);
  const source = parseAddress(packet.sourceIP);
  if (destination === undefined || source?.family !== destination.family) return verdictOnly('NONE', 'no address of ours');
  const ports = listOf(world.ports);
  const ranges = listOf(world.ranges ?? []);
  // Exact frontends are tried before NodePorts (3.1).
  for (const isNodePort of [false, true]) {
    for (const port of ports) {
      const frontend = port.frontends.find((each) => (each.type === 'NodePort') === isNodePort && isHit(each, destination, packet));
      if (frontend !== undefined) return through(port, frontend, sourceOf(world, ranges, { packet, source }));
    }
  }
  const isIn = (set: AddressSet): boolean => isMember(ranges, set, destination.text);
  if (isIn('clusterIP'))
    return verdictOnly('REJECT', `${destination.text} is a ClusterIP without port ${packet.destPort}/${packet.protocol}`);
  if (isIn('serviceCIDR')) return verdictOnly('DROP', `${destination.text} lies in a Service CIDR and belongs to no Service`);
  return verdictOnly('NONE', `no Service has ${hostPort(destination.text, packet.destPort)}/${packet.protocol}`);
}

const listOf = <Row>(rows: Rows<Row>): Row[] => [...(rows instanceof Map ? (rows.values() as Iterable<Row>) : (rows as Iterable<Row>))];

const isHit = (frontend: Frontend, { text }: Address, packet: TracePacket): boolean =>
  frontend.address === text && frontend.port === packet.destPort && frontend.protocol === packet.protocol;

const isMember = (ranges: readonly DesiredRange[], set: AddressSet, address: string): boolean =>
  ranges.some((row) => row.set === set && cidrContains(row.cidr, address));

function sourceOf(
  world: TraceWorld,
  ranges: readonly DesiredRange[],
  { packet, source }: { packet: TracePacket; source: Address },
): Source {
  const detection = world.host?.podDetection[source.family] ?? 'none';
  const isPod = {
    none: () => false,
    cidr: () => isMember(ranges, 'pod', source.text),
    interface: () =>
      packet.iface === undefined ? packet.from === 'pod' : (world.podInterfaces ?? []).some((prefix) => packet.iface?.startsWith(prefix)),
  }[detection]();
  return {
    ...{ ip: source.text, isPod, isNode: isMember(ranges, 'node', source.text) },
    ...{ hasDetector: detection !== 'none', masqueradeAll: world.host?.masqueradeAll ?? false },
  };
}

/** A packet that hit a frontend: source ranges, then the set of backends, then masquerading. */
function through(port: DesiredPort, frontend: Frontend, source: Source): Trace {
  const at = { port: port.key, frontend };
  const name = `${frontend.type} ${frontendKey(frontend)}`;
  if (frontend.hasSourceRanges && !port.sourceRanges.some((range) => cidrContains(range, source.ip)))
    return { ...verdictOnly('DROP', `${source.ip} is outside the source ranges of ${name}`), ...at };
  const set = setOf(frontend, source);
  const backends = port.backends.filter((backend) => (set === 'Local' ? backend.isLocallyUsable : backend.isUsable));
  if (!port.backends.some((backend) => backend.isUsable || backend.isLocallyUsable))
    return { ...verdictOnly('REJECT', `${name} has no usable backend anywhere`), ...at, set };
  if (backends.length === 0) return { ...verdictOnly('DROP', `${name} has policy Local and no usable backend on this node`), ...at, set };
  const text = ({ address, port: number }: { address: string; port: number }): string => hostPort(address, number);
  const masquerade = isMasqueraded(frontend, source);
  return {
    ...{ verdict: 'DNAT', ...at, set, masquerade },
    candidates: backends.map(text),
    hairpin: backends.filter((backend) => backend.address === source.ip).map(text),
    reason: `${name} of policy ${frontend.policy} gives this source its ${set} set${masquerade ? ', masqueraded' : ''}`,
  };
}

/** The policy in force, but for insiders that use an external frontend of policy Local (6.4). */
function setOf(frontend: Frontend, source: Source): TrafficPolicy {
  const isShortCircuit = frontend.type !== 'ClusterIP' && (source.isPod || source.isNode);
  return isShortCircuit ? 'Cluster' : frontend.policy;
}

/** The table of section 9, without hairpin: that depends on the backend. */
function isMasqueraded(frontend: Frontend, { isPod, isNode, hasDetector, masqueradeAll }: Source): boolean {
  if (frontend.type === 'ClusterIP') return masqueradeAll || (hasDetector && !isPod);
  return frontend.policy === 'Cluster' || (isNode && !isPod);
}
