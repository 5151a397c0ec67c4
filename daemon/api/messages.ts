// SPDX-License-Identifier: Apache-2.0
// Converts the rows of AgentView to the messages of proto/sluice/v1. Pure. 64-bit fields are decimal strings, since protobufjs
// encodes a BigInt as 0 without an error. Called by grpc.ts.
import type { Backend } from '../../proto/gen/sluice/v1/Backend.ts';
import type { BpfMap } from '../../proto/gen/sluice/v1/BpfMap.ts';
import type { OpenFlows as OpenFlowsMessage } from '../../proto/gen/sluice/v1/OpenFlows.ts';
import type { ServicePort } from '../../proto/gen/sluice/v1/ServicePort.ts';
import type { Source } from '../../proto/gen/sluice/v1/Source.ts';
import type { StatusResponse } from '../../proto/gen/sluice/v1/StatusResponse.ts';
import type { OpenFlows } from '../model/phase.ts';
import { mapPressure, overallSeverity, statusLines } from '../status/severity.ts';
import type { AgentStatus, BackendView, MapStatus, ServiceView, SourceStatus } from '../status/view.ts';
import { fitting, fittingTexts, short } from './fitting.ts';

const attachmentKinds = {
  tcx: 'ATTACHMENT_KIND_TCX',
  clsact: 'ATTACHMENT_KIND_CLSACT',
  cgroup: 'ATTACHMENT_KIND_CGROUP',
} as const;

const backendStates = {
  active: 'BACKEND_STATE_ACTIVE',
  terminating: 'BACKEND_STATE_TERMINATING',
  quarantined: 'BACKEND_STATE_QUARANTINED',
} as const;

const severities = {
  Ok: 'SEVERITY_OK',
  Warning: 'SEVERITY_WARNING',
  Degraded: 'SEVERITY_DEGRADED',
  NotReady: 'SEVERITY_NOT_READY',
} as const;

const deviceRoles = { none: 'DEVICE_ROLE_NONE', pod: 'DEVICE_ROLE_POD', uplink: 'DEVICE_ROLE_UPLINK' } as const;

const phases = { serving: 'PHASE_SERVING', migrating: 'PHASE_MIGRATING', draining: 'PHASE_DRAINING' } as const;

const rowStates = { pending: 'ROW_STATE_PENDING', done: 'ROW_STATE_DONE', error: 'ROW_STATE_ERROR' } as const;

const KiB = 1024;

/**
 * Maximum numbers of elements of the repeated fields, so that a Service port and a backend fit into 1 MiB. sluice.proto has the same numbers.
 */
const most = {
  devices: 500,
  contenders: 20,
  frontends: 500,
  backends: 5000,
  frontendsOfBackend: 20,
} as const;
/**
 * Maximum sizes of the repeated fields of the status, which sluice.proto states too. Together they have 1.5 MiB. The lines have at most
 * 1 MiB: 17 lines of 20 shortened details. The settings have at most 1 MiB, because the kernel limits each argument of a process to 128 KiB.
 * The status therefore fits into a response of 4 MiB.
 */
const mostOfStatus = {
  problems: { count: 500, bytes: 512 * KiB },
  conflicts: { count: 500, bytes: 384 * KiB },
  cidrs: { count: 10_000, bytes: 96 * KiB },
  attachments: { count: 10_000, bytes: 256 * KiB },
  texts: { count: 500, bytes: 64 * KiB },
} as const;

const decimal = (value: number): string => Math.trunc(value).toFixed(0);

/** Number of elements after the first `count`. */
const more = (elements: readonly unknown[], count: number): number => Math.max(0, elements.length - count);

/** Sets every field. */
export function statusMessage(status: AgentStatus): StatusResponse {
  const lines = statusLines(status);
  const conflicts = conflictMessages(status);
  const attachments = fitting(status.attachments, mostOfStatus.attachments);
  return {
    severity: severities[overallSeverity(lines)],
    agent: agentMessage(status),
    ready: status.ready,
    notReadyReasons: fittingTexts(status.reasons, mostOfStatus.texts),
    sources: status.sources.map(sourceMessage),
    reconcile: {
      done: decimal(status.reconcile.done),
      pending: decimal(status.reconcile.pending),
      error: decimal(status.reconcile.error),
      errors: status.reconcile.errors.map(({ key, message, retries }) => ({ key: short(key), message: short(message), retries })),
    },
    counts: {
      services: decimal(status.counts.services),
      frontends: decimal(status.counts.frontends),
      backends: decimal(status.counts.backends),
    },
    maps: status.maps.map(mapMessage),
    attachments: attachments.kept.map(({ hook, target, kind, program }) => ({ hook, target, program, kind: attachmentKinds[kind] })),
    moreAttachments: attachments.more,
    devices: status.devices.slice(0, most.devices).map(({ name, role, reason }) => ({ name, role: deviceRoles[role], reason })),
    moreDevices: more(status.devices, most.devices),
    socketLb: status.socketLb,
    hostProblems: fittingTexts(status.hostProblems, mostOfStatus.texts),
    drops: status.drops
      .filter(({ packets }) => packets > 0n)
      .map(({ reason, packets, bytes }) => ({ reason, packets: packets.toString(), bytes: bytes.toString() })),
    repairs: {
      total: decimal(status.repairs.total),
      last: status.repairs.last.map(({ sentence, at }) => ({ sentence: short(sentence), time: new Date(at).toISOString() })),
      problems: fittingTexts(status.repairs.problems, mostOfStatus.texts),
    },
    conflicts: conflicts.kept,
    moreConflicts: conflicts.more,
    lines: lines.map(({ subject, severity, summary, details }) => {
      return { subject, severity: severities[severity], summary: short(summary), details: details.map(short) };
    }),
    addressSets: status.addressSets.map(({ name, cidrs }) => {
      const { kept, more: moreCidrs } = fitting(cidrs, mostOfStatus.cidrs);
      return { name, cidrs: kept, moreCidrs };
    }),
    settings: status.settings.map(({ name, value }) => ({ name, value })),
    phase: phases[status.handover.phase],
    openFlows: status.handover.openFlows === undefined ? null : openFlowsMessage(status.handover.openFlows),
  };
}

export const openFlowsMessage = ({ tcp, udp, sctp }: OpenFlows): OpenFlowsMessage => ({
  tcp: decimal(tcp),
  udp: decimal(udp),
  sctp: decimal(sctp),
});

function agentMessage(status: AgentStatus): NonNullable<StatusResponse['agent']> {
  const { version, commit, libbpf, kernel, node, pid, uptimeSeconds } = status;
  return { version, commit, libbpf, kernel, node, pid, uptimeSeconds: decimal(uptimeSeconds) };
}

/** The conflicts of the status, and the number of those that neither the status nor the message lists. */
function conflictMessages({ conflicts, conflictCount = conflicts.length }: AgentStatus) {
  const messages = conflicts.map(({ frontend, owner, contenders, more: unlisted = 0 }) => {
    const listed = contenders.slice(0, most.contenders);
    return { frontend, owner, contenders: listed, moreContenders: contenders.length - listed.length + unlisted };
  });
  const { kept } = fitting(messages, mostOfStatus.conflicts);
  return { kept, more: conflictCount - kept.length };
}

function sourceMessage(source: SourceStatus): Source {
  const problems = source.problems.map(({ file, line, kind, object, field, message }) => {
    return { file: short(file), line, kind: short(kind), object: short(object), field: short(field), message: short(message) };
  });
  const { kept, more: moreProblems } = fitting(problems, mostOfStatus.problems);
  return { name: source.name, initialized: source.isInitialized, complete: source.isComplete, problems: kept, moreProblems };
}

function mapMessage(map: MapStatus): BpfMap {
  const { name, type, capacity, used } = map;
  return { name, type, capacity: decimal(capacity), used: decimal(used ?? -1), pressure: mapPressure(map) ?? -1 };
}

/** The message for a Service port. inSync is true when the Service port has no differences. */
export function serviceMessage(service: ServiceView): ServicePort {
  const { id, key, namespace, name, portName, protocol, family, row } = service;
  return {
    id,
    key,
    namespace,
    name,
    portName,
    protocol,
    family,
    wanted: service.isWanted,
    frontends: service.frontends
      .slice(0, most.frontends)
      .map(({ protocol: transport, isWanted, isRealized, hasSourceRanges, ...frontend }) => {
        const { address, port, scope, type: kind, policy } = frontend;
        return { address, port, protocol: transport, scope, type: kind, policy, hasSourceRanges, wanted: isWanted, realized: isRealized };
      }),
    moreFrontends: more(service.frontends, most.frontends),
    backends: service.backends.slice(0, most.backends).map(({ address, port, use, isLocal, isUsable, isLocallyUsable }) => {
      return { address, port, state: backendStates[use], local: isLocal, usable: isUsable, locallyUsable: isLocallyUsable };
    }),
    moreBackends: more(service.backends, most.backends),
    run: service.run.slice(0, most.backends).map(({ id: backend, address, port, slots }) => ({ id: backend, address, port, slots })),
    moreRun: more(service.run, most.backends),
    inSync: service.differences.length === 0,
    differences: [...service.differences],
    row: { state: rowStates[row.state], message: row.message, retries: row.retries },
    affinitySeconds: service.affinitySeconds,
    sourceRanges: [...service.sourceRanges],
    healthCheckNodePort: service.healthCheckNodePort,
  };
}

/** A backend entry. */
export function backendMessage(backend: BackendView): Backend {
  const { id, family, address, port, generation, service, frontends, flags, isWanted } = backend;
  return {
    ...{ id, family, address, port, generation, service, flags: [...flags], wanted: isWanted },
    frontends: frontends.slice(0, most.frontendsOfBackend),
    moreFrontends: more(frontends, most.frontendsOfBackend),
  };
}
