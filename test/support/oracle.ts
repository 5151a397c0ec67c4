// SPDX-License-Identifier: Apache-2.0
// The packet oracle: derives what must happen to the first packet of a flow from the desired rows alone, in the order of the statements
// in test/README.md. Packet cases run through the oracle and through the kernel, and both must agree. It must stay simpler than the
// datapath that it judges: linear searches, no index, no state.
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
  /** Used only where local pods are recognised by their interface. Addresses decide everything else. */
  readonly from?: Origin;
  /** The interface through which the packet arrived, when known. */
  readonly iface?: string;
}

/** A list of rows, or a map with rows as values. */
type Rows<Row> = Iterable<Row> | ReadonlyMap<string, Row>;

export interface TraceWorld {
  readonly ports: Rows<DesiredPort>;
  /** If it is missing, no source counts as the node or as a local pod. */
  readonly host?: DesiredHost;
  /** The address sets. */
  readonly ranges?: Rows<DesiredRange>;
  /** Name prefixes of pod interfaces. */
  readonly podInterfaces?: readonly string[];
}

export interface Trace {
  /** NONE: the destination is not a frontend, and the packet passes unchanged. */
  readonly verdict: 'DNAT' | 'REJECT' | 'DROP' | 'NONE';
  readonly frontend?: Frontend;
  /** Key of the desired port; defined whenever `frontend` is. */
  readonly port?: string;
  /** The set of backends that was used. */
  readonly set?: TrafficPolicy;
  /** Every backend that may receive the packet, as "address:port" in order of address and port; empty unless the verdict is DNAT. */
  readonly candidates: readonly string[];
  /** Whether the node's address becomes the source address, whichever backend is chosen. */
  readonly masquerade: boolean;
  /**
   * The candidates whose address is the packet's source address. For these candidates the source address is always rewritten.
   */
  readonly hairpin: readonly string[];
  /** One sentence that explains the verdict. */
  readonly reason: string;
}

/** The source of a packet and the address sets that contain it. */
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

/** Derives what happens to a packet. */
export function trace(world: TraceWorld, packet: TracePacket): Trace {
  const destination = parseAddress(packet.destIP);
  const source = parseAddress(packet.sourceIP);
  if (destination === undefined || source?.family !== destination.family)
    return verdictOnly('NONE', 'the source and the destination are not addresses of one IP family');
  const ports = listOf(world.ports);
  const ranges = listOf(world.ranges ?? []);
  // Frontends of all other types win over NodePorts (test/README.md, 3.1).
  for (const isNodePort of [false, true]) {
    for (const port of ports) {
      const frontend = port.frontends.find((each) => (each.type === 'NodePort') === isNodePort && isHit(each, destination, packet));
      if (frontend !== undefined) return atFrontend(port, frontend, sourceOf(world, ranges, { packet, source }));
    }
  }
  const isIn = (set: AddressSet): boolean => isMember(ranges, set, destination.text);
  if (isIn('clusterIP'))
    return verdictOnly('REJECT', `${destination.text} is a ClusterIP without port ${packet.destPort}/${packet.protocol}`);
  if (isIn('serviceCIDR')) return verdictOnly('DROP', `${destination.text} is in a Service CIDR, but no Service has it`);
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

/** The result for a packet to a frontend: source ranges, then the set of backends, then masquerading. */
function atFrontend(port: DesiredPort, frontend: Frontend, source: Source): Trace {
  const at = { port: port.key, frontend };
  const name = `${frontend.type} ${frontendKey(frontend)}`;
  if (frontend.hasSourceRanges && !port.sourceRanges.some((range) => cidrContains(range, source.ip)))
    return { ...verdictOnly('DROP', `${source.ip} is outside the source ranges of ${name}`), ...at };
  const set = setOf(frontend, source);
  const backends = port.backends.filter((backend) => (set === 'Local' ? backend.isLocallyUsable : backend.isUsable));
  if (!port.backends.some((backend) => backend.isUsable || backend.isLocallyUsable))
    return { ...verdictOnly('REJECT', `${name} has no usable backend`), ...at, set };
  if (backends.length === 0) return { ...verdictOnly('DROP', `${name} has policy Local and no usable backend on this node`), ...at, set };
  const text = ({ address, port: number }: { address: string; port: number }): string => hostPort(address, number);
  const masquerade = isMasqueraded(frontend, source);
  return {
    ...{ verdict: 'DNAT', ...at, set, masquerade },
    candidates: backends.map(text),
    hairpin: backends.filter((backend) => backend.address === source.ip).map(text),
    reason: `${name} with policy ${frontend.policy} uses its ${set} backends for this source${masquerade ? ' and masquerades it' : ''}`,
  };
}

/** The traffic policy of the frontend. Local pods and the node always get the Cluster set of an external frontend (test/README.md, 6.4). */
function setOf(frontend: Frontend, source: Source): TrafficPolicy {
  const isShortCircuit = frontend.type !== 'ClusterIP' && (source.isPod || source.isNode);
  return isShortCircuit ? 'Cluster' : frontend.policy;
}

/** The table of test/README.md, 9, without hairpin, which depends on the backend. */
function isMasqueraded(frontend: Frontend, { isPod, isNode, hasDetector, masqueradeAll }: Source): boolean {
  if (frontend.type === 'ClusterIP') return masqueradeAll || (hasDetector && !isPod);
  return frontend.policy === 'Cluster' || (isNode && !isPod);
}
