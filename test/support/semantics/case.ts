// SPDX-License-Identifier: Apache-2.0
// The parts of a packet case of test/README.md, part B: objects, a node, packets and the expected result of each packet. Cases
// are data and must not depend on how they run: the same case runs through the oracle (test/unit/services/semantics.test.ts)
// and through the kernel's programs (test/kernel/semantics.test.ts).
import type { Trace, TracePacket } from '../oracle.ts';
import { desiredRows } from '../../../daemon/offline/dry-run.ts';
import type { Origin } from '../../../daemon/model/explanation.ts';
import type { DesiredHost, DesiredPort, DesiredRange } from '../../../daemon/model/frontend.ts';
import type { HostSettings } from '../../../daemon/model/host.ts';
import type { EndpointSlice } from '../../../daemon/model/endpoint-slice.ts';
import type { Node } from '../../../daemon/model/node.ts';
import { objectKey } from '../../../daemon/model/object-key.ts';
import type { Protocol, Service } from '../../../daemon/model/service.ts';
import { convertObject } from '../../../daemon/source/objects.ts';
import { sourceTables } from '../../../daemon/source/tables.ts';
import { hostSettings, nodeRow } from '../builders.ts';

/** Everything that determines what a node does with a packet. */
export interface Cluster {
  readonly services?: readonly Service[];
  readonly slices?: readonly EndpointSlice[];
  /** API objects as a source receives them. They are converted first; rejected objects are left out. */
  readonly objects?: readonly object[];
  /** Default: thisNode. */
  readonly node?: Node;
  /** Local addresses in addition to those of the Node. */
  readonly localAddresses?: readonly string[];
  readonly serviceCIDRs?: readonly string[];
  /** Default: kube-proxy's defaults, with cluster CIDRs. */
  readonly settings?: Partial<HostSettings>;
  readonly podInterfaces?: readonly string[];
}

export type Expected = Pick<Trace, 'verdict'> & Partial<Pick<Trace, 'candidates' | 'masquerade' | 'hairpin'>>;

export interface SemanticsCase {
  /** Begins with the number of the statement: "5 row 2: usable only on other nodes". */
  readonly name: string;
  readonly cluster: Cluster;
  readonly packets: readonly { readonly packet: TracePacket; readonly want: Expected }[];
}

export const clusterCidr = ['10.244.0.0/16', 'fd00:244::/48'];

/** The node under test: in zone a, with a /24 and a /64 of the cluster CIDRs. */
export const thisNode = nodeRow('node-1', {
  addresses: ['192.168.0.1', 'fd00:1::1'],
  labels: { 'topology.kubernetes.io/zone': 'a' },
  podCIDRs: ['10.244.1.0/24', 'fd00:244:0:1::/64'],
});

export interface Desired {
  readonly ports: ReadonlyMap<string, DesiredPort>;
  readonly host: DesiredHost;
  readonly ranges: ReadonlyMap<string, DesiredRange>;
  readonly podInterfaces: readonly string[];
}

/** The rows that the daemon's controllers compute, with every contested frontend assigned to its owner. */
export function desiredOf(cluster: Cluster): Desired {
  const tables = sourceTables(() => undefined);
  const { services, slices, nodes, serviceCIDRs, localAddresses } = tables;
  const node = cluster.node ?? thisNode;
  nodes.upsert(node.name, node);
  for (const service of cluster.services ?? []) services.upsert(objectKey(service), service);
  for (const slice of cluster.slices ?? []) slices.upsert(objectKey(slice), slice);
  for (const raw of cluster.objects ?? []) {
    const object = convertObject(raw);
    if (object.kind === 'Service' && object.row !== undefined) services.upsert(object.key, object.row);
    if (object.kind === 'EndpointSlice' && object.row !== undefined) slices.upsert(object.key, object.row);
  }
  serviceCIDRs.upsert('case', { name: 'case', cidrs: cluster.serviceCIDRs ?? [] });
  for (const address of [...node.addresses, ...(cluster.localAddresses ?? [])]) localAddresses.upsert(address, { address, ifindex: 2 });
  const settings = hostSettings({ clusterCidr, ...cluster.settings });
  return { ...desiredRows(tables, { nodeName: node.name, settings }), podInterfaces: cluster.podInterfaces ?? [] };
}

interface Sender {
  readonly ip: string;
  readonly from: Origin;
  readonly iface?: string;
}

/** The senders of most packets. */
export const senders = {
  pod: { ip: '10.244.1.9', from: 'pod' },
  /** The backend on this node. */
  localBackend: { ip: '10.244.1.2', from: 'pod' },
  remotePod: { ip: '10.244.2.9', from: 'external' },
  node: { ip: '192.168.0.1', from: 'node' },
  outside: { ip: '198.51.100.7', from: 'external' },
  pod6: { ip: 'fd00:244:0:1::9', from: 'pod' },
  remotePod6: { ip: 'fd00:244:0:2::9', from: 'external' },
  node6: { ip: 'fd00:1::1', from: 'node' },
  outside6: { ip: '2001:db8::7', from: 'external' },
} as const satisfies Record<string, Sender>;

/** A packet from a sender to a destination such as "10.96.0.10:80/TCP", and its expected result. */
export function sends(sender: keyof typeof senders | Sender, to: string, want: Expected): SemanticsCase['packets'][number] {
  const { ip, from, iface }: Sender = typeof sender === 'string' ? senders[sender] : sender;
  const [, bracketed, plain, port, protocol] = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)\/(TCP|UDP|SCTP)$/.exec(to) ?? [];
  if (protocol === undefined) throw new Error(`malformed destination: ${to}`);
  const packet = {
    protocol: protocol as Protocol,
    sourceIP: ip,
    sourcePort: 40_000,
    destIP: bracketed ?? plain ?? '',
    destPort: Number(port),
    from,
  };
  return { packet: iface === undefined ? packet : { ...packet, iface }, want };
}

export const reject: Expected = { verdict: 'REJECT', candidates: [] };
export const drop: Expected = { verdict: 'DROP', candidates: [] };
export const none: Expected = { verdict: 'NONE', candidates: [] };

/** DNAT to one of the candidates; the source address is kept. */
export const dnat = (...candidates: string[]): Expected => ({ verdict: 'DNAT', candidates, masquerade: false });

/** DNAT to one of the candidates; the source address becomes the node's address. */
export const masqueraded = (...candidates: string[]): Expected => ({ verdict: 'DNAT', candidates, masquerade: true });
