// SPDX-License-Identifier: Apache-2.0
// The types of the read model, which is the state of the agent at one moment. agent-status.ts makes it from tables, maps and
// loops; api/ only shows it.
import type { Family } from '../model/address.ts';
import type { DeviceRole } from '../model/device.ts';
import type { Explanation, PacketQuery } from '../model/explanation.ts';
import type { Backend, FrontendType, Scope } from '../model/frontend.ts';
import type { OpenFlows, Phase } from '../model/phase.ts';
import type { Protocol, TrafficPolicy } from '../model/service.ts';
import type { Versions } from '../model/versions.ts';

/**
 * The interface to the agent that api/ uses. Every call reads the current state and may throw KernelError when a map cannot be read.
 * The iterables do their work while the caller takes their elements, so that the caller may pause; an undefined element is only a place
 * to pause. Each row is read at one moment, and different rows may be read at different moments.
 */
export interface AgentView {
  status(): AgentStatus;
  /** Yields the Service ports, sorted by key. A frontend that only the kernel holds has isWanted false. */
  services(): Iterable<ServiceView | undefined>;
  /** Yields the backends, sorted by family and id. */
  backends(): Iterable<BackendView | undefined>;
  /** Runs the programs on each packet and returns their decisions. Changes no state. Throws ExitError for a packet that cannot exist. */
  explain(questions: readonly PacketQuery[]): Iterable<Explanation>;
  /** Resolves when explain() needs no long preparation any more. Rejects with KernelError. */
  explainReady(): Promise<void>;
  /** Whether the agent is ready. Must be cheap, because every probe calls it. `reasons` is empty exactly when the agent is ready. */
  health(): Health;
}

/** The result of `sluice reload`. */
export interface ReloadReport {
  /** Number of hooks whose program was replaced. */
  readonly hooks: number;
  readonly milliseconds: number;
}

export interface Health {
  readonly ready: boolean;
  /** The reasons why the agent is not ready, one message each. */
  readonly reasons: readonly string[];
}

/**
 * The kinds of findings that parts of the agent report about themselves. severity.ts decides which line of the status contains a finding,
 * and how severe its problems are.
 */
export type FindingKind =
  | 'node'
  | 'firewall'
  | 'devices'
  | 'missingPrograms'
  | 'otherAgents'
  | 'displacedPrograms'
  | 'programsAhead'
  | 'mapSizes'
  | 'networkPolicies';

export interface Finding {
  /** Describes the present state; "" when the line of the status has a summary of its own. */
  readonly summary: string;
  /** One message for each thing that is wrong now, with the next step. */
  readonly problems: readonly string[];
}

/** Degraded and NotReady are failures, Warning is not. */
export type Severity = 'Ok' | 'Warning' | 'Degraded' | 'NotReady';

/** The state of one subject, as the agent reports it. Made by severity.ts. */
export interface StatusLine {
  /** "Source", "Maps". */
  readonly subject: string;
  readonly severity: Severity;
  readonly summary: string;
  /** Problems and their next steps, one message each. */
  readonly details: readonly string[];
}

export interface AgentStatus extends Versions, Health {
  readonly node: string;
  readonly pid: number;
  readonly uptimeSeconds: number;
  readonly sources: readonly SourceStatus[];
  readonly reconcile: ReconcileStatus;
  /** Sizes of the desired state. */
  readonly counts: { readonly services: number; readonly frontends: number; readonly backends: number };
  readonly maps: readonly MapStatus[];
  readonly attachments: readonly AttachmentStatus[];
  /** Every network device of the node. */
  readonly devices: readonly DeviceStatus[];
  /** True if socket programs are attached. */
  readonly socketLb: boolean;
  /** Problems of the host with the next step, such as "net.ipv4.ip_forward is 0 ...: sysctl -w net.ipv4.ip_forward=1". */
  readonly hostProblems: readonly string[];
  /** The drop counters of all reasons, including those that are zero. */
  readonly drops: readonly DropStatus[];
  /** A bounded number of the contested frontends. */
  readonly conflicts: readonly ConflictStatus[];
  /** Number of all contested frontends; by default those in `conflicts`. */
  readonly conflictCount?: number;
  readonly unserved: UnservedStatus;
  readonly repairs: RepairStatus;
  /** The sets "node", "pod" and "serviceCIDR"; a set without members is left out. */
  readonly addressSets: readonly { readonly name: string; readonly cidrs: readonly string[] }[];
  /** The settings that decide what is served, as flags accept them. */
  readonly settings: readonly { readonly name: string; readonly value: string }[];
  readonly handover: HandoverStatus;
  readonly findings: Readonly<Record<FindingKind, Finding>>;
  readonly log: { readonly droppedLines: number; readonly reason: string | undefined };
}

/** Which connections are served on a node that kube-proxy serves too. */
export interface HandoverStatus {
  readonly phase: Phase;
  /** The flows that were open at the last count. Undefined unless the phase is draining, and before the first count. */
  readonly openFlows: OpenFlows | undefined;
}

/** Changes that other programs made to the agent's state, and that the agent repaired. */
export interface RepairStatus {
  /** Number of repairs since the agent started. */
  readonly total: number;
  /** The last repairs, the newest first; `at` in milliseconds since 1970. */
  readonly last: readonly { readonly sentence: string; readonly at: number }[];
  /** Messages about differences that could not be repaired. */
  readonly problems: readonly string[];
}

export interface SourceStatus {
  /** Kind and place of the source: "files /etc/sluice". */
  readonly name: string;
  /** True when the first list of the source is in the tables. */
  readonly isInitialized: boolean;
  /** False when a part of the source could not be read; the last known objects of that part stay in force. */
  readonly isComplete: boolean;
  /** Bounded by the source; the last element may state how many more there are. */
  readonly problems: readonly SourceProblem[];
  /** Text about the objects that the source ignores on purpose; "" or undefined when there are none. */
  readonly omissions?: string;
}

/** A problem of a source. Empty strings and line 0 stand for "unknown". */
export interface SourceProblem {
  readonly file: string;
  readonly line: number;
  readonly kind: string;
  readonly object: string;
  readonly field: string;
  /** The whole problem, with file, line, object and field. */
  readonly message: string;
}

export interface ReconcileStatus {
  readonly done: number;
  readonly pending: number;
  readonly error: number;
  /** A bounded number of the failed rows, and every failed step of a loop, such as "prune of ports". */
  readonly errors: readonly { readonly key: string; readonly message: string; readonly retries: number }[];
}

export interface MapStatus {
  readonly name: string;
  /** The kernel's name of the type: "hash", "array", "lru_hash". */
  readonly type: string;
  readonly capacity: number;
  /** Number of entries; undefined when counting them would require reading the whole map. */
  readonly used: number | undefined;
  /** The setting that sizes the map, without "--"; undefined for a map of fixed size. */
  readonly flag?: string | undefined;
}

export interface AttachmentStatus {
  /** The hook, such as "ingress", "egress" or "connect4". */
  readonly hook: string;
  /** Device name or cgroup path. */
  readonly target: string;
  readonly kind: 'tcx' | 'clsact' | 'cgroup';
  readonly program: string;
}

export interface DeviceStatus {
  readonly name: string;
  /** 'none': the device has no programs. */
  readonly role: DeviceRole | 'none';
  /** The reason for the role: "default route", "loopback", "port of bond0". */
  readonly reason: string;
}

export interface DropStatus {
  readonly reason: string;
  readonly packets: bigint;
  readonly bytes: bigint;
}

export interface ConflictStatus {
  /** "10.96.0.10:80/TCP". */
  readonly frontend: string;
  /** Key of the DesiredPort that owns the frontend. */
  readonly owner: string;
  /** Keys of the first Service ports that claim the frontend but do not own it. */
  readonly contenders: readonly string[];
  /** Number of contenders that are not listed. */
  readonly more?: number;
}

/** Requests of Services that this node does not serve, one message each. */
export interface UnservedStatus {
  /** Frontends and ClusterIPs that would take over the connection to the API server. */
  readonly refused: readonly string[];
  /** External IPs that the operator excluded with --external-ips. One message per Service. */
  readonly excluded: readonly string[];
  /** EndpointSlices beyond the number of endpoints that one Service may use. One message per Service and IP family. Default: none. */
  readonly limited?: readonly string[];
}

/** active: the backend receives new flows. terminating: it only keeps its flows. quarantined: it receives no flows. */
export type BackendUse = 'active' | 'terminating' | 'quarantined';

/**
 * One Service port in one family: desired state and what the kernel holds. For a frontend that no Service port wants, the names are ""
 * and the key is the frontend.
 */
export interface ServiceView {
  /** Index in lb_services; 0 while the port is not in the kernel. */
  readonly id: number;
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly portName: string;
  readonly protocol: Protocol;
  readonly family: Family;
  readonly isWanted: boolean;
  /** Timeout of session affinity; 0 without session affinity. */
  readonly affinitySeconds: number;
  /** Source ranges of the frontends with hasSourceRanges. */
  readonly sourceRanges: readonly string[];
  /** Health check port on this node; 0 if the Service has none. */
  readonly healthCheckNodePort: number;
  readonly frontends: readonly FrontendView[];
  /** The backends of the desired state. */
  readonly backends: readonly WantedBackend[];
  /** The backends in the consecutive slots of this port in the kernel, without duplicates. */
  readonly run: readonly { readonly id: number; readonly address: string; readonly port: number; readonly slots: number }[];
  /**
   * Differences, such as "kernel lacks 10.0.1.3:8080". Empty when the frontends, their flags and their backend addresses are as desired.
   * Limited in length; the last line then says that there are more.
   */
  readonly differences: readonly string[];
  readonly row: { readonly state: 'pending' | 'done' | 'error'; readonly message: string; readonly retries: number };
}

export interface WantedBackend {
  readonly address: string;
  readonly port: number;
  readonly use: BackendUse;
  readonly isLocal: boolean;
  /** True if frontends with traffic policy Cluster use the backend. */
  readonly isUsable: boolean;
  /** True if frontends with traffic policy Local use the backend. */
  readonly isLocallyUsable: boolean;
}

export interface FrontendView {
  readonly address: string;
  readonly port: number;
  readonly protocol: Protocol;
  readonly scope: Scope;
  /** Type and policy are "" for a frontend that no Service port wants. */
  readonly type: FrontendType | '';
  readonly policy: TrafficPolicy | '';
  readonly hasSourceRanges: boolean;
  readonly isWanted: boolean;
  /** The frontend is in the kernel and belongs to this Service port. */
  readonly isRealized: boolean;
}

/** One row of lb4_backends or lb6_backends that is in use. */
export interface BackendView {
  readonly id: number;
  readonly family: Family;
  readonly address: string;
  readonly port: number;
  readonly generation: number;
  /** Key of the DesiredPort that owns the backend; "" when no DesiredPort owns it. */
  readonly service: string;
  /** Keys of the frontends that use the backend: "10.96.0.10:80/TCP". */
  readonly frontends: readonly string[];
  readonly flags: readonly ('usable' | 'local' | 'serving' | 'present')[];
  readonly isWanted: boolean;
}

/**
 * Derives the use of a backend from its conditions. A usable backend receives new flows; a backend that is only serving keeps its
 * flows.
 */
export function backendUse(backend: Pick<Backend, 'isUsable' | 'isLocallyUsable' | 'isServing'>): BackendUse {
  if (backend.isUsable || backend.isLocallyUsable) return 'active';
  return backend.isServing ? 'terminating' : 'quarantined';
}
