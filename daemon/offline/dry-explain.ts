// SPDX-License-Identifier: Apache-2.0
// Implements `sluice explain --objects`: writes the desired rows of a dry run into temporary maps, and runs the read-only copies of the
// programs with these maps. Needs a kernel but no daemon. It must never pin or attach anything; all maps are closed on return. Called by
// cli/explain.ts.
import { dryRun, type DryRunInput } from './dry-run.ts';
import { systemClock } from '../base/clock.ts';
import { didYouMean } from '../base/nearest.ts';
import { type DeviceQuestion, Explainer } from '../explain/explainer.ts';
import { objectsPath } from '../bpf/datapath.ts';
import { ExplainPrograms } from '../explain/programs.ts';
import { kernelMaps } from '../maps/kernel-maps.ts';
import { SLOTS_PER_ROW } from '../maps/types.ts';
import { cidrContains } from '../model/address.ts';
import type { Explanation, Origin, PacketQuery } from '../model/explanation.ts';
import type { DesiredHost, DesiredPort, DesiredRange } from '../model/frontend.ts';
import type { HostSettings } from '../model/host.ts';
import type { Node } from '../model/node.ts';
import { AddressSetOperations } from '../services/apply/address-set-operations.ts';
import { HostOperations } from '../services/apply/host-operations.ts';
import { LbOperations } from '../services/apply/lb-operations.ts';

const LOOPBACK = 1;

export interface DryExplainInput extends DryRunInput {
  readonly settings: HostSettings & { readonly socketLb: boolean };
}

export interface DryExplained {
  readonly explanations: readonly Explanation[];
  /** One message for each invalid object. */
  readonly problems: readonly string[];
}

/** Throws ExitError for invalid input and KernelError when the kernel does not load the programs. */
export function dryExplain(input: DryExplainInput, queries: readonly PacketQuery[]): DryExplained {
  const { node, ports, host, ranges, services, problems } = dryRun(input);
  const programs = ExplainPrograms.load({ objectsPath, sizes: sizesFor([...ports.values()], ranges.size), assumesRoute: true });
  try {
    const maps = kernelMaps((name) => programs.map(name));
    const operations = new LbOperations({ maps, clock: systemClock });
    operations.restore();
    for (const row of ports.values()) operations.update(row);
    new HostOperations(maps, { netnsCookie: 0n, now: () => 0n }).update(assumedHost(host));
    const sets = new AddressSetOperations(maps);
    for (const row of ranges.values()) sets.update(row);
    const owners = operations.owners();
    const explainer = new Explainer({
      ...{ programs, maps, sockets: input.settings.socketLb ? 'on request' : { problem: '--socket-lb is off' } },
      owners: () => owners,
      ports: (key) => ports.get(key),
      service: (key) => services.get(key),
      originOf: (source) => originOf(source, node, ranges),
      deviceOf: (question) => ({ ifindex: LOOPBACK, program: `tc_${question.hook}`, problem: deviceProblem(question, input.settings) }),
      deviceName: () => undefined,
      isPodInterface: (origin, iface) => {
        const { podInterfaces } = input.settings;
        // The devices of the node are unknown, so with auto the origin of the packet decides.
        return iface === undefined || podInterfaces === 'auto'
          ? origin === 'pod'
          : podInterfaces.some((prefix) => iface.startsWith(prefix));
      },
    });
    return { explanations: queries.map((query) => explainer.explain(query)), problems };
  } finally {
    programs.close();
  }
}

/**
 * The reason why the device has no program. Every device is assumed to have programs, except a device that the query names and the settings
 * exclude.
 */
function deviceProblem({ iface, hook }: DeviceQuestion, { uplinks }: HostSettings): string | undefined {
  if (iface === undefined || hook === 'pod_in' || uplinks === 'auto' || uplinks.length === 0 || uplinks.includes(iface)) return undefined;
  const near = didYouMean(iface, uplinks);
  return `no program is attached to ${iface}, which is neither one of --uplinks ${uplinks.join(',')} nor named by --pod-interfaces${near}`;
}

/** The host row as if tc programs were attached everywhere, with placeholders for node addresses that the node file omits. */
const assumedHost = (row: DesiredHost): DesiredHost => ({
  ...row,
  hasTc: { pods: true, node: true },
  nodeAddresses: { IPv4: '0.0.0.1', IPv6: '::1', ...row.nodeAddresses },
});

function originOf(source: string, node: Node, ranges: ReadonlyMap<string, DesiredRange>): Origin {
  for (const row of ranges.values()) if (row.set === 'node' && cidrContains(row.cidr, source)) return 'node';
  return node.podCIDRs.some((cidr) => cidrContains(cidr, source)) ? 'pod' : 'external';
}

/** Small map sizes that are sufficient for these rows. */
function sizesFor(ports: readonly DesiredPort[], members: number): Record<string, number> {
  const sum = (of: (port: DesiredPort) => number): number => ports.reduce((total, port) => total + of(port), 0);
  const backends = sum((port) => port.backends.length);
  const frontends = sum((port) => port.frontends.length);
  const ranges = sum((port) => port.sourceRanges.length) + members;
  const flows = { ct4: 64, ct6: 64, frag4: 64, frag6: 64, sk4_backends: 64, sk6_backends: 64, sk4_vips: 64, sk6_vips: 64 };
  return {
    ...{ ...flows, lb4_affinity: 64, lb6_affinity: 64 },
    ...{ lb4_frontends: frontends + 8, lb6_frontends: frontends + 8, lb_services: ports.length + 8 },
    ...{ lb4_backends: backends + 8, lb6_backends: backends + 8, lb_slots: Math.ceil(backends / SLOTS_PER_ROW) + 8 },
    ...{ lb4_ranges: ranges + 8, lb6_ranges: ranges + 8 },
  };
}
