// SPDX-License-Identifier: Apache-2.0
// The status of the agent, read at one moment from tables, maps and the loops: desired state, what the kernel holds, and the
// differences between them. Reads only. agent/status.ts passes the parts; api/ shows the status.
import type { Repairs } from '../base/repairs.ts';
import type { StatusPart, SummaryPart } from '../base/status-part.ts';
import type { MapPressure } from '../maps/types.ts';
import type { Explanation, PacketQuery } from '../model/explanation.ts';
import type { DesiredPort, DesiredRange } from '../model/frontend.ts';
import type { Versions } from '../model/versions.ts';
import type { Reconciler } from '../table/reconciler.ts';
import type { TableView } from '../table/table.ts';
import { backendViews, type ListParts, serviceViews } from './lists.ts';
import {
  type AgentStatus,
  type AgentView,
  type BackendView,
  type ConflictStatus,
  type DeviceStatus,
  type Finding,
  type FindingKind,
  type HandoverStatus,
  type Health,
  type ServiceView,
  type SourceProblem,
  type UnservedStatus,
} from './view.ts';

/** A source of objects, as far as the status shows it. */
interface StatusSource {
  readonly name: string;
  readonly isComplete: boolean;
  readonly omissions?: string;
  problems(): readonly SourceProblem[];
}

/** A reconcile loop with rows of any type. */
type Loop = Pick<Reconciler<string, unknown>, 'failed' | 'failedSteps' | 'isReady'>;

/** A program that is, or should be, attached to a device or a cgroup. */
interface Attachment {
  readonly program: string;
  readonly target: string;
  readonly kind: 'tcx' | 'clsact' | 'cgroup';
}

export interface AgentStatusParts extends ListParts {
  readonly node: string;
  readonly versions: Versions;
  readonly source: StatusSource;
  readonly services: Pick<TableView<string, unknown>, 'size'>;
  /** Every table that the source fills. */
  readonly objects: readonly Pick<TableView<string, unknown>, 'initialized'>[];
  /** Tables besides `desired` that must be initialized before the agent is ready. */
  readonly otherTables: readonly Pick<TableView<string, unknown>, 'initialized'>[];
  readonly portLoop: Pick<Reconciler<string, DesiredPort>, 'counts' | 'status'>;
  /** Every loop that must be ready before the agent is ready, by name. Includes `portLoop`. */
  readonly loops: Readonly<Record<string, Loop>>;
  /** Every map of the datapath: its name, the kernel's number of its type, its size, and the flag that sets the size. */
  readonly mapInfos: () => readonly {
    readonly name: string;
    readonly type: number;
    readonly maxEntries: number;
    readonly flag?: string | undefined;
  }[];
  readonly pressure: () => readonly MapPressure[];
  readonly drops: () => readonly { readonly reason: string; readonly packets: number; readonly bytes: number }[];
  readonly attachments: () => readonly Attachment[];
  readonly devices: () => readonly DeviceStatus[];
  /** Problems of the host, its devices and its ports. */
  readonly host: readonly StatusPart[];
  readonly repairs: Pick<Repairs, 'total' | 'last'>;
  /** One message for each difference that could not be repaired. */
  readonly drift: StatusPart;
  readonly log: () => AgentStatus['log'];
  readonly conflicts: () => readonly ConflictStatus[];
  readonly handover: HandoverStatus;
  readonly findings: Readonly<Record<FindingKind, StatusPart & Partial<SummaryPart>>>;
  /** Number of contested frontends, of which conflicts() may list only a part. */
  readonly conflictCount: () => number;
  readonly unserved: () => UnservedStatus;
  readonly explain: AgentView['explain'];
  readonly explainReady: AgentView['explainReady'];
  readonly ranges: Pick<TableView<string, DesiredRange>, 'all'>;
  readonly settings: AgentStatus['settings'];
}

/** Names of the map types that the datapath uses, by the kernel's number. */
const mapTypes: Readonly<Record<number, string>> = { 1: 'hash', 2: 'array', 6: 'percpu_array', 9: 'lru_hash', 11: 'lpm_trie' };
const shownErrors = 20;

const hookNames: Readonly<Record<string, string>> = {
  ...{ tc_pod_in: 'ingress', tc_pod_out: 'egress', tc_uplink_in: 'ingress', tc_uplink_out: 'egress' },
  ...{ tc_l3_in: 'ingress', tc_l3_out: 'egress' },
  ...{ sock_connect4: 'connect4', sock_connect6: 'connect6', sock_sendmsg4: 'sendmsg4', sock_sendmsg6: 'sendmsg6' },
  ...{ sock_recvmsg4: 'recvmsg4', sock_recvmsg6: 'recvmsg6', sock_getpeer4: 'getpeername4', sock_getpeer6: 'getpeername6' },
};

class View implements AgentView {
  readonly #parts: AgentStatusParts;

  constructor(parts: AgentStatusParts) {
    this.#parts = parts;
  }

  health(): Health {
    const { desired, otherTables, objects, loops, source } = this.#parts;
    const reasons: string[] = [];
    if (!objects.every(({ initialized }) => initialized)) {
      const whys = source.problems().slice(0, shownErrors);
      reasons.push(`the first list of the source ${source.name} is not finished`, ...whys.map(({ message }) => message));
    } else if (![desired, ...otherTables].every(({ initialized }) => initialized)) {
      reasons.push('the desired state is not computed yet: computing it needs the objects of the source and the addresses of this node');
    } else if (!Object.values(loops).every(({ isReady }) => isReady)) reasons.push('the first reconcile is not finished');
    return { ready: reasons.length === 0, reasons };
  }

  status(): AgentStatus {
    const { node, versions, source, objects, portLoop, repairs, drift, host } = this.#parts;
    const attachments = this.#parts.attachments();
    return {
      ...{ ...versions, ...this.health() },
      ...{ node, pid: process.pid, uptimeSeconds: process.uptime(), socketLb: attachments.some(({ kind }) => kind === 'cgroup') },
      sources: [
        {
          ...{ name: source.name, isInitialized: objects.every(({ initialized }) => initialized), isComplete: source.isComplete },
          ...{ problems: source.problems(), omissions: source.omissions ?? '' },
        },
      ],
      reconcile: { ...portLoop.counts(), ...this.#loopErrors() },
      counts: this.#counts(),
      maps: this.#mapStatus(),
      attachments: attachments.map(({ program, target, kind }) => ({ hook: hookNames[program] ?? program, target, kind, program })),
      devices: this.#parts.devices().map(({ name, role, reason }) => ({ name, role, reason })),
      hostProblems: host.flatMap((part) => part.problems()),
      drops: this.#parts.drops().map(({ reason, packets, bytes }) => ({ reason, packets: BigInt(packets), bytes: BigInt(bytes) })),
      repairs: { total: repairs.total, last: repairs.last(), problems: drift.problems() },
      ...{ conflicts: this.#parts.conflicts(), conflictCount: this.#parts.conflictCount() },
      ...{ addressSets: addressSets(this.#parts.ranges), settings: this.#parts.settings },
      handover: { phase: this.#parts.handover.phase, openFlows: this.#parts.handover.openFlows },
      findings: this.#findings(),
      unserved: this.#parts.unserved(),
      log: this.#parts.log(),
    };
  }

  explain(questions: readonly PacketQuery[]): Iterable<Explanation> {
    return this.#parts.explain(questions);
  }

  explainReady(): Promise<void> {
    return this.#parts.explainReady();
  }

  services(): Iterable<ServiceView | undefined> {
    return serviceViews(this.#parts);
  }

  backends(): Iterable<BackendView | undefined> {
    return backendViews(this.#parts);
  }

  #loopErrors(): Pick<AgentStatus['reconcile'], 'error' | 'errors'> {
    const loops = Object.entries(this.#parts.loops);
    const rows = loops.flatMap(([, loop]) => [...loop.failed()]);
    const steps = loops.flatMap(([name, loop]) =>
      loop.failedSteps().map(({ step, ...failure }) => ({ key: `${step} of ${name}`, ...failure })),
    );
    return {
      error: rows.length,
      errors: [
        // Failed steps are listed before failed rows, because a failed step may be the reason that no row is applied.
        ...steps.map(({ key, error, retries }) => ({ key, message: error.message, retries })),
        ...rows.slice(0, shownErrors).map(([key, { error, retries }]) => ({ key, message: error?.message ?? '', retries })),
      ],
    };
  }

  #findings(): AgentStatus['findings'] {
    const found = Object.entries(this.#parts.findings).map(([kind, part]): [string, Finding] => [
      kind,
      { summary: part.summary?.() ?? '', problems: part.problems() },
    ]);
    return Object.fromEntries(found) as AgentStatus['findings'];
  }

  #counts(): AgentStatus['counts'] {
    const { desired, services } = this.#parts;
    let [frontends, backends] = [0, 0];
    for (const [, port] of desired.all()) {
      frontends += port.frontends.length;
      backends += port.backends.length;
    }
    return { services: services.size, frontends, backends };
  }

  #mapStatus(): AgentStatus['maps'] {
    const used = new Map(this.#parts.pressure().map((row) => [row.map, row]));
    return this.#parts.mapInfos().map(({ name, type, maxEntries, flag }) => {
      const row = used.get(name);
      return { name, type: mapTypes[type] ?? String(type), capacity: row?.capacity ?? maxEntries, used: row?.used, flag };
    });
  }
}

/** The members of each address set. The set of ClusterIPs is left out: it has one member per Service, and the frontends show them. */
function addressSets(ranges: AgentStatusParts['ranges']): AgentStatus['addressSets'] {
  const rows = [...ranges.all()].map(([, row]) => row).filter(({ set }) => set !== 'clusterIP');
  return [...Map.groupBy(rows, ({ set }) => set)].map(([name, members]) => ({ name, cidrs: members.map(({ cidr }) => cidr).toSorted() }));
}

export const agentView = (parts: AgentStatusParts): AgentView => new View(parts);
