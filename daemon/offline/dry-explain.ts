// SPDX-License-Identifier: Apache-2.0
// `sluice explain --objects`: the desired rows of a dry run, realized in throw-away maps, and the twins over these. Needs a
// kernel and no daemon; nothing is pinned or attached, and all is gone on return.
import { dryRun, type DryRunInput } from './dry-run.ts';
import { systemClock } from '../base/clock.ts';
import { Explainer } from '../explain/explainer.ts';
import { objectsPath } from '../bpf/datapath.ts';
import { Twins } from '../explain/programs.ts';
import { kernelMaps } from '../maps/kernel-maps.ts';
import { SLOTS_PER_ROW } from '../maps/types.ts';
import { cidrContains } from '../model/address.ts';
import type { Answer, Origin, Question } from '../model/explanation.ts';
import { type DesiredHost, type DesiredPort, hostKey, type HostRow } from '../model/frontend.ts';
import type { Node } from '../model/node.ts';
import { HostOperations } from '../services/apply/host-operations.ts';
import { LbOperations } from '../services/apply/lb-operations.ts';

const LOOPBACK = 1;

export interface DryExplainInput extends DryRunInput {
  /** Prefixes of the names of devices that lead to pods. */
  readonly podInterfaces: readonly string[];
  readonly snatPorts: readonly { readonly first: number; readonly last: number }[];
}

export interface DryExplained {
  readonly answers: readonly Answer[];
  /** What of the objects could not be used. */
  readonly problems: readonly string[];
}

/** Throws Refusal for inputs that cannot be used, KernelError when the kernel does not let us load. */
export function dryExplain(input: DryExplainInput, questions: readonly Question[]): DryExplained {
  const { node, ports, host, problems } = dryRun(input);
  const twins = new Twins({ objectsPath, sizes: sizesFor([...ports.values()], host.size), assumesRoute: true });
  try {
    const maps = kernelMaps((name) => twins.map(name));
    const operations = new LbOperations({ maps, clock: systemClock });
    operations.restore();
    for (const row of ports.values()) operations.update(row);
    const hostOperations = new HostOperations(maps, { netnsCookie: 0n, hasTc: { pods: true, node: true }, snatPorts: input.snatPorts });
    for (const row of host.values()) hostOperations.update('set' in row ? row : withAddresses(row));
    const owners = operations.owners();
    const explainer = new Explainer({
      ...{ twins, maps, hasSocketLb: false },
      owners: () => owners,
      ports: (key) => ports.get(key),
      originOf: (source) => originOf(source, node, host),
      deviceOf: () => LOOPBACK,
      deviceName: () => undefined,
      isPodInterface: (origin, iface) =>
        iface === undefined ? origin === 'pod' : input.podInterfaces.some((prefix) => iface.startsWith(prefix)),
    });
    return { answers: questions.map((question) => explainer.explain(question)), problems };
  } finally {
    twins.close();
  }
}

/** A node file need not name an address of each family; that something is masqueraded can be said all the same. */
const withAddresses = (row: DesiredHost): DesiredHost => ({
  ...row,
  nodeAddresses: { IPv4: '0.0.0.1', IPv6: '::1', ...row.nodeAddresses },
});

function originOf(source: string, node: Node, host: ReadonlyMap<string, HostRow>): Origin {
  for (const [key, row] of host) if (key !== hostKey && 'set' in row && row.set === 'node' && cidrContains(row.cidr, source)) return 'node';
  return node.podCIDRs.some((cidr) => cidrContains(cidr, source)) ? 'pod' : 'external';
}

/** Just large enough. */
function sizesFor(ports: readonly DesiredPort[], hostRows: number): Record<string, number> {
  const sum = (of: (port: DesiredPort) => number): number => ports.reduce((total, port) => total + of(port), 0);
  const backends = sum((port) => port.backends.length);
  const frontends = sum((port) => port.frontends.length);
  const ranges = sum((port) => port.sourceRanges.length) + hostRows;
  const flows = { ct4: 64, ct6: 64, frag4: 64, frag6: 64, sk4_backends: 64, sk6_backends: 64, sk4_vips: 64, sk6_vips: 64 };
  return {
    ...{ ...flows, lb4_affinity: 64, lb6_affinity: 64 },
    ...{ lb4_frontends: frontends + 8, lb6_frontends: frontends + 8, lb_services: ports.length + 8 },
    ...{ lb4_backends: backends + 8, lb6_backends: backends + 8, lb_slots: Math.ceil(backends / SLOTS_PER_ROW) + 8 },
    ...{ lb4_ranges: ranges + 8, lb6_ranges: ranges + 8 },
  };
}
