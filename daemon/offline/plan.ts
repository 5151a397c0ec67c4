// SPDX-License-Identifier: Apache-2.0
// Computes the result of `sluice plan`: the frontends that a dry run serves, or the differences between a dry run and a running daemon.
// Pure. It depends neither on the API nor on the layout of the output: cli/ supplies the state of the daemon and prints the result.
import { hostPort } from '../model/address.ts';
import { backendsFor, type DesiredPort, type Frontend, frontendKey, type FrontendType, type Scope, scopeOf } from '../model/frontend.ts';
import { compareText } from '../model/order.ts';
import type { TrafficPolicy } from '../model/service.ts';
import { healthCheckPort } from '../services/health/local-endpoints.ts';
import { type BackendUse, backendUse } from '../status/view.ts';
import type { DryRun } from './dry-run.ts';

/** One frontend of a plan. `sluice plan -o json` prints these fields in the order in which planRows() sets them. */
export interface PlanRow {
  /** "10.96.0.10:80/TCP". */
  readonly frontend: string;
  /** "namespace/name:portName". */
  readonly service: string;
  readonly type: FrontendType;
  readonly scope: Scope;
  /** The backends that the traffic policy selects: "10.244.1.2:8080", sorted as text like the candidates of `sluice explain`. */
  readonly backends: readonly string[];
  /** Null without session affinity. */
  readonly affinitySeconds: number | null;
  /** Source ranges that this frontend checks. */
  readonly sourceRanges: readonly string[];
  readonly policy: TrafficPolicy;
  /** Backends that keep their flows and receive no new ones. */
  readonly terminatingBackends: readonly string[];
  /** Null if the Service has no health check on this node. */
  readonly healthCheckNodePort: number | null;
  /** Keys of the other Service ports that claim the frontend but do not get it. */
  readonly contenders: readonly string[];
}

/** The rows of a plan, sorted by frontend as text. */
export function planRows({ ports, services, conflicts }: Pick<DryRun, 'ports' | 'services' | 'conflicts'>): PlanRow[] {
  const contenders = new Map(conflicts.map((each) => [each.frontend, each.contenders]));
  const rowOf = (port: DesiredPort, frontend: Frontend): PlanRow => ({
    frontend: frontendKey(frontend),
    service: `${port.namespace}/${port.name}:${port.portName}`,
    type: frontend.type,
    scope: scopeOf(frontend),
    backends: textsOf(backendsFor(port, frontend.policy)),
    affinitySeconds: port.affinitySeconds === 0 ? null : port.affinitySeconds,
    sourceRanges: frontend.hasSourceRanges ? port.sourceRanges : [],
    policy: frontend.policy,
    terminatingBackends: textsOf(port.backends.filter((backend) => backendUse(backend) === 'terminating')),
    healthCheckNodePort: healthCheckPort(services.get(`${port.namespace}/${port.name}`)) || null,
    contenders: contenders.get(frontendKey(frontend)) ?? [],
  });
  const rows = [...ports.values()].flatMap((port) => port.frontends.map((frontend) => rowOf(port, frontend)));
  return rows.toSorted((a, b) => compareText(a.frontend, b.frontend));
}

const textsOf = (backends: readonly { readonly address: string; readonly port: number }[]): string[] =>
  backends.map(({ address, port }) => hostPort(address, port)).sort();

/** The state that a daemon serves or would serve. It contains only what a plan compares. */
export interface ServedState {
  readonly frontends: readonly Pick<PlanRow, 'frontend' | 'service' | 'type' | 'policy' | 'backends' | 'sourceRanges'>[];
  readonly ports: readonly ServedPort[];
  /** By "namespace/name". */
  readonly healthCheckPorts: ReadonlyMap<string, number>;
  readonly conflicts: readonly { readonly frontend: string; readonly owner: string; readonly contenders: readonly string[] }[];
  /** Members of address sets, such as "pod 10.244.1.0/24". Undefined if unknown. */
  readonly addressSets: readonly string[] | undefined;
  /** Settings by name. Undefined if unknown. */
  readonly settings: ReadonlyMap<string, string> | undefined;
  /** Programs by device, such as eth0: "tc_uplink_in, tc_uplink_out". Undefined if unknown. */
  readonly devices: ReadonlyMap<string, string> | undefined;
}

export interface ServedPort {
  /** "namespace/name:portName/TCP/IPv4". */
  readonly key: string;
  /** Timeout of session affinity in seconds; 0 without session affinity. */
  readonly affinitySeconds: number;
  readonly backends: readonly { readonly backend: string; readonly use: BackendUse }[];
}

/** The state that the dry run serves. Settings and devices are those for which the plan is made. */
export function plannedState(run: DryRun, { settings, devices }: Pick<ServedState, 'settings' | 'devices'>): ServedState {
  const { ports, services, conflicts, ranges } = run;
  const healthCheckPorts = [...services].map(([key, service]) => [key, healthCheckPort(service)] as const);
  return {
    frontends: planRows(run),
    ports: [...ports.values()].map(({ key, affinitySeconds, backends }) => ({
      ...{ key, affinitySeconds },
      backends: backends.map((each) => ({ backend: hostPort(each.address, each.port), use: backendUse(each) })),
    })),
    healthCheckPorts: new Map(healthCheckPorts.filter(([, port]) => port !== 0)),
    conflicts,
    addressSets: [...ranges.values()].filter(({ set }) => set !== 'clusterIP').map(({ set, cidr }) => `${set} ${cidr}`),
    ...{ settings, devices },
  };
}

/** A difference: a subject or an attribute is added or removed, or the value of an attribute changes. */
export interface PlanChange {
  readonly kind: 'added' | 'removed' | 'changed';
  readonly text: string;
}

/** A subject of the comparison, or one of its attributes. */
interface Item {
  /** Name of the subject: "10.96.0.10:80/TCP default/web:http". */
  readonly subject: string;
  /** "" for the subject itself. */
  readonly attribute: string;
  readonly value: string;
  /** The default value of the attribute. An added subject is listed without attributes that have this value. */
  readonly usual: string;
}

/** The changes from what is served to what is planned, sorted by subject and attribute. */
export function planChanges(served: ServedState, planned: ServedState): PlanChange[] {
  // Values that one of the two states does not contain cannot be compared.
  const known = <T>(of: (state: ServedState) => T | undefined): boolean => of(served) !== undefined && of(planned) !== undefined;
  const parts = {
    addressSets: known((state) => state.addressSets),
    settings: known((state) => state.settings),
    devices: known((state) => state.devices),
  };
  const [before, after] = [itemsOf(served, parts), itemsOf(planned, parts)];
  const keys = [...new Set([...before.keys(), ...after.keys()])].toSorted(compareText);
  return keys.flatMap((key): PlanChange[] => {
    const [was, is] = [before.get(key), after.get(key)];
    if (was === undefined) return is === undefined || is.value === is.usual ? [] : [{ kind: 'added', text: textOf(is) }];
    if (is === undefined)
      return was.value === was.usual || ownAttributes.has(was.attribute) ? [] : [{ kind: 'removed', text: textOf(was) }];
    if (was.value === is.value) return [];
    return [{ kind: 'changed', text: `${is.subject}: ${is.attribute} ${was.value} -> ${is.value}` }];
  });
}

const textOf = ({ subject, attribute, value }: Item): string => (attribute === '' ? subject : `${subject}: ${attribute} ${value}`);

/** Attributes that a subject always has. They are removed only together with the subject, so their removal is not listed. */
const ownAttributes: ReadonlySet<string> = new Set(['type', 'traffic policy', 'source ranges', 'session affinity']);

/** The items by subject and attribute. A subject sorts directly before its attributes. */
function itemsOf(state: ServedState, parts: Record<'addressSets' | 'settings' | 'devices', boolean>): Map<string, Item> {
  const items: Item[] = [
    ...state.frontends.flatMap(frontendItems),
    ...state.ports.flatMap(portItems),
    ...[...state.healthCheckPorts].map(([service, port]) =>
      attribute(service, 'health check port', { value: String(port), usual: 'none' }),
    ),
    ...state.conflicts.map(({ frontend, owner, contenders }) =>
      attribute(`conflict on ${frontend}`, 'served', { value: `for ${owner}, not for ${contenders.join(', ')}`, usual: '' }),
    ),
    ...(parts.addressSets ? (state.addressSets ?? []).map((member) => subject(`address set ${member}`)) : []),
    ...(parts.settings ? [...(state.settings ?? [])].map(([name, value]) => settingItem(name, value)) : []),
    ...(parts.devices ? [...(state.devices ?? [])].map(([name, programs]) => subject(`device ${name}: programs ${programs}`)) : []),
  ];
  return new Map(items.map((item) => [`${item.subject}\0${item.attribute}`, item]));
}

const subject = (text: string): Item => ({ subject: text, attribute: '', value: text, usual: '' });
const attribute = (of: string, name: string, { value, usual }: { value: string; usual: string }): Item => ({
  ...{ subject: of, attribute: name, value, usual },
});
const settingItem = (name: string, value: string): Item => attribute(`setting ${name}`, 'value', { value: value || 'none', usual: '' });

function frontendItems({ frontend, service, type, policy, backends, sourceRanges }: ServedState['frontends'][number]): Item[] {
  const name = `${frontend} ${service}`;
  return [
    subject(name),
    attribute(name, 'type', { value: type, usual: type }),
    attribute(name, 'traffic policy', { value: policy, usual: 'Cluster' }),
    attribute(name, 'source ranges', { value: sourceRanges.join(', ') || 'any', usual: 'any' }),
    ...backends.map((backend) => subject(`${name} => ${backend}`)),
  ];
}

function portItems({ key, affinitySeconds, backends }: ServedPort): Item[] {
  const affinity = affinitySeconds === 0 ? 'none' : `ClientIP for ${affinitySeconds} s`;
  return [
    attribute(key, 'session affinity', { value: affinity, usual: 'none' }),
    ...backends.map(({ backend, use }) => attribute(`${key} => ${backend}`, 'state', { value: use, usual: 'active' })),
  ];
}
