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

const rowStates = { pending: 'ROW_STATE_PENDING', done: 'ROW_STATE_DONE', error: 'ROW_STATE_ERROR' } as const;

const decimal = (value: number): string => Math.trunc(value).toFixed(0);

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
    socketLb: status.socketLb,
    hostProblems: [...status.hostProblems],
    drops: status.drops.map(({ reason, packets, bytes }) => ({ reason, packets: packets.toString(), bytes: bytes.toString() })),
    repairs: {
      total: decimal(status.repairs.total),
      last: status.repairs.last.map(({ sentence, at }) => ({ sentence, time: new Date(at).toISOString() })),
      problems: [...status.repairs.problems],
    },
    conflicts: status.conflicts.map(({ frontend, owner, contenders }) => ({ frontend, owner, contenders: [...contenders] })),
    lines: lines.map(({ subject, severity, summary, details }) => {
      return { subject, severity: severities[severity], summary, details: [...details] };
    }),
    addressSets: status.addressSets.map(({ name, cidrs }) => ({ name, cidrs: [...cidrs] })),
    settings: status.settings.map(({ name, value }) => ({ name, value })),
  };
}

function agentMessage(status: AgentStatus): NonNullable<StatusResponse['agent']> {
  const { version, commit, libbpf, kernel, node, pid, uptimeSeconds } = status;
  return { version, commit, libbpf, kernel, node, pid, uptimeSeconds: decimal(uptimeSeconds) };
}

function sourceMessage(source: SourceStatus): Source {
  return {
    name: source.name,
    initialized: source.isInitialized,
    complete: source.isComplete,
    problems: source.problems.map(({ file, line, kind, object, field, message }) => ({ file, line, kind, object, field, message })),
  };
}

function mapMessage(map: MapStatus): BpfMap {
  const { name, type, capacity, used } = map;
  return { name, type, capacity: decimal(capacity), used: decimal(used ?? -1), pressure: mapPressure(map) ?? -1 };
}

/** A Service port; inSync is derived from its differences. */
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
    frontends: service.frontends.map(({ protocol: transport, isWanted, isRealized, hasSourceRanges, ...frontend }) => {
      const { address, port, scope, type: kind, policy } = frontend;
      return { address, port, protocol: transport, scope, type: kind, policy, hasSourceRanges, wanted: isWanted, realized: isRealized };
    }),
    backends: service.backends.map(({ address, port, use, isLocal, isUsable, isLocallyUsable }) => {
      return { address, port, state: backendStates[use], local: isLocal, usable: isUsable, locallyUsable: isLocallyUsable };
    }),
    run: service.run.map(({ id: backend, address, port, slots }) => ({ id: backend, address, port, slots })),
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
  return { id, family, address, port, generation, service, frontends: [...frontends], flags: [...flags], wanted: isWanted };
}
