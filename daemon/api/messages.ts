// SPDX-License-Identifier: Apache-2.0
// Converts the rows of AgentView to the messages of proto/sluice/v1. Pure. 64-bit fields are decimal strings, since protobufjs
// encodes a BigInt as 0 without an error. Called by grpc.ts.
import type { Backend } from '../../proto/gen/sluice/v1/Backend.ts';
import type { BpfMap } from '../../proto/gen/sluice/v1/BpfMap.ts';
import type { ServicePort } from '../../proto/gen/sluice/v1/ServicePort.ts';
import type { Source } from '../../proto/gen/sluice/v1/Source.ts';
import type { StatusResponse } from '../../proto/gen/sluice/v1/StatusResponse.ts';
import { mapPressure, overallSeverity, statusLines } from '../status/severity.ts';
import type { AgentStatus, BackendView, MapStatus, ServiceView, SourceStatus } from '../status/view.ts';

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

const rowStates = { pending: 'ROW_STATE_PENDING', done: 'ROW_STATE_DONE', error: 'ROW_STATE_ERROR' } as const;

/** Maximum numbers of elements of the repeated fields, so that every message fits into 1 MiB. sluice.proto has the same numbers. */
const most = {
  problems: 500,
  conflicts: 500,
  devices: 500,
  contenders: 20,
  details: 500,
  frontends: 500,
  backends: 5000,
  frontendsOfBackend: 20,
} as const;
/** Maximum number of UTF-16 code units of a text that names objects. */
const mostText = 1000;

const decimal = (value: number): string => Math.trunc(value).toFixed(0);

/** Number of elements after the first `count`. */
const more = (elements: readonly unknown[], count: number): number => Math.max(0, elements.length - count);

const short = (text: string): string => (text.length <= mostText ? text : `${text.slice(0, mostText)}...`);

/** Sets every field. */
export function statusMessage(status: AgentStatus): StatusResponse {
  const lines = statusLines(status);
  return {
    severity: severities[overallSeverity(lines)],
    agent: agentMessage(status),
    ready: status.ready,
    notReadyReasons: [...status.reasons],
    sources: status.sources.map(sourceMessage),
    reconcile: {
      done: decimal(status.reconcile.done),
      pending: decimal(status.reconcile.pending),
      error: decimal(status.reconcile.error),
      errors: status.reconcile.errors.map(({ key, message, retries }) => ({ key, message, retries })),
    },
    counts: {
      services: decimal(status.counts.services),
      frontends: decimal(status.counts.frontends),
      backends: decimal(status.counts.backends),
    },
    maps: status.maps.map(mapMessage),
    attachments: status.attachments.map(({ hook, target, kind, program }) => ({ hook, target, program, kind: attachmentKinds[kind] })),
    devices: status.devices.slice(0, most.devices).map(({ name, role, reason }) => ({ name, role: deviceRoles[role], reason })),
    moreDevices: more(status.devices, most.devices),
    socketLb: status.socketLb,
    hostProblems: [...status.hostProblems],
    drops: status.drops
      .filter(({ packets }) => packets > 0n)
      .map(({ reason, packets, bytes }) => ({ reason, packets: packets.toString(), bytes: bytes.toString() })),
    repairs: {
      total: decimal(status.repairs.total),
      last: status.repairs.last.map(({ sentence, at }) => ({ sentence, time: new Date(at).toISOString() })),
      problems: [...status.repairs.problems],
    },
    conflicts: status.conflicts.slice(0, most.conflicts).map(({ frontend, owner, contenders }) => {
      return { frontend, owner, contenders: contenders.slice(0, most.contenders), moreContenders: more(contenders, most.contenders) };
    }),
    moreConflicts: more(status.conflicts, most.conflicts),
    lines: lines.map(({ subject, severity, summary, details }) => {
      return { subject, severity: severities[severity], summary, details: detailTexts(details) };
    }),
    addressSets: status.addressSets.map(({ name, cidrs }) => ({ name, cidrs: [...cidrs] })),
    settings: status.settings.map(({ name, value }) => ({ name, value })),
  };
}

function agentMessage(status: AgentStatus): NonNullable<StatusResponse['agent']> {
  const { version, commit, libbpf, kernel, node, pid, uptimeSeconds } = status;
  return { version, commit, libbpf, kernel, node, pid, uptimeSeconds: decimal(uptimeSeconds) };
}

function detailTexts(details: readonly string[]): string[] {
  const omitted = more(details, most.details);
  return [...details.slice(0, most.details).map(short), ...(omitted === 0 ? [] : [`and ${omitted} more`])];
}

function sourceMessage(source: SourceStatus): Source {
  return {
    name: source.name,
    initialized: source.isInitialized,
    complete: source.isComplete,
    problems: source.problems.slice(0, most.problems).map(({ file, line, kind, object, field, message }) => {
      return { file: short(file), line, kind: short(kind), object: short(object), field: short(field), message: short(message) };
    }),
    moreProblems: more(source.problems, most.problems),
  };
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
