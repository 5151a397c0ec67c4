// SPDX-License-Identifier: Apache-2.0
// Converts the answers of the running daemon to the state that it serves, in the form that `sluice plan` compares. Pure. Called by plan.ts.
import type { ServicePort__Output as ServicePort } from '../../proto/gen/sluice/v1/ServicePort.ts';
import type { StatusResponse__Output as Status } from '../../proto/gen/sluice/v1/StatusResponse.ts';
import { hostPort } from '../model/address.ts';
import type { DeviceSettings } from '../model/device.ts';
import type { FrontendType } from '../model/frontend.ts';
import type { TrafficPolicy } from '../model/service.ts';
import type { ServedPort, ServedState } from '../offline/plan.ts';

const uses: Readonly<Record<ServicePort['backends'][number]['state'], ServedPort['backends'][number]['use']>> = {
  BACKEND_STATE_UNSPECIFIED: 'quarantined',
  BACKEND_STATE_ACTIVE: 'active',
  BACKEND_STATE_TERMINATING: 'terminating',
  BACKEND_STATE_QUARANTINED: 'quarantined',
};

/**
 * A daemon of an earlier version reports no settings; settings, address sets and devices are then unknown. Address sets and devices are also
 * unknown if the daemon has more of them than it reports.
 */
export function servedState(status: Status, services: readonly ServicePort[]): ServedState {
  const { conflicts, addressSets, settings, attachments, moreAttachments } = status;
  const wanted = services.filter((port) => port.wanted);
  const isKnown = settings.length > 0;
  const areSetsKnown = isKnown && addressSets.every(({ moreCidrs }) => moreCidrs === 0);
  const onDevices = attachments.filter(({ kind }) => kind !== 'ATTACHMENT_KIND_CGROUP');
  const byDevice = [...Map.groupBy(onDevices, ({ target }) => target)];
  const healthChecks = wanted.map((port) => [`${port.namespace}/${port.name}`, port.healthCheckNodePort] as const);
  return {
    frontends: wanted.flatMap(servedFrontends),
    ports: wanted.map(({ key, affinitySeconds, backends }) => ({
      ...{ key, affinitySeconds },
      backends: backends.map(({ address, port, state }) => ({ backend: hostPort(address, port), use: uses[state] })),
    })),
    healthCheckPorts: new Map(healthChecks.filter(([, port]) => port !== 0)),
    conflicts,
    addressSets: areSetsKnown ? addressSets.flatMap(({ name, cidrs }) => cidrs.map((cidr) => `${name} ${cidr}`)) : undefined,
    settings: isKnown ? new Map(settings.map(({ name, value }) => [name, value])) : undefined,
    devices:
      isKnown && moreAttachments === 0
        ? new Map(byDevice.map(([device, programs]) => [device, programsText(programs.map(({ program }) => program))]))
        : undefined,
  };
}

export const programsText = (programs: readonly string[]): string => programs.toSorted().join(', ');

/** The frontends that the daemon wants for a Service port, with the backends that their policy selects. */
function servedFrontends({ namespace, name, portName, frontends, backends, sourceRanges }: ServicePort): ServedState['frontends'] {
  return frontends
    .filter(({ wanted }) => wanted)
    .map(({ address, port, protocol, policy, type, hasSourceRanges }) => ({
      frontend: `${hostPort(address, port)}/${protocol}`,
      service: `${namespace}/${name}:${portName}`,
      type: type as FrontendType,
      policy: policy as TrafficPolicy,
      sourceRanges: hasSourceRanges ? sourceRanges : [],
      backends: backends
        .filter(({ usable, locallyUsable }) => (policy === 'Local' ? locallyUsable : usable))
        .map((backend) => hostPort(backend.address, backend.port)),
    }));
}

/**
 * The devices that would have programs with the planned settings: those that have programs now and keep them, and the uplinks that are new.
 * Undefined if that is unknown, because a setting changes to or from `auto`.
 */
export function plannedDevices(served: ServedState | undefined, settings: DeviceSettings): ServedState['devices'] {
  const before = served?.devices;
  const known = (name: string): string | undefined => served?.settings?.get(name);
  if (before === undefined) return undefined;
  const { podInterfaces, uplinks } = settings;
  if ((podInterfaces === 'auto') !== (known('pod-interfaces') === 'auto') || (uplinks === 'auto') !== (known('uplinks') === 'auto'))
    return undefined;
  const isPlanned = (name: string, programs: string): boolean =>
    programs.includes('tc_pod_in')
      ? podInterfaces === 'auto' || podInterfaces.some((prefix) => name.startsWith(prefix))
      : uplinks === 'auto' || uplinks.includes(name);
  // An uplink that does not exist has no programs now, so it counts as a difference only if the setting changes.
  const named = known('uplinks')?.split(',') ?? [];
  const added = uplinks === 'auto' ? [] : uplinks.filter((name) => !named.includes(name));
  return new Map([
    ...[...before].filter(([name, programs]) => isPlanned(name, programs)),
    // Which programs it would have depends on its link-layer header, which is unknown here.
    ...added.map((name) => [name, 'of an uplink'] as const),
  ]);
}
