// SPDX-License-Identifier: Apache-2.0
// The result of `sluice plan`: the frontends of a dry run, and how they differ from the frontends that a daemon serves. Pure. It
// depends neither on the API nor on the layout of the output: cli/plan.ts supplies the served frontends and prints the result.
import { hostPort } from '../model/address.ts';
import { backendsFor, type DesiredPort, type Frontend, frontendKey, type FrontendType, type Scope, scopeOf } from '../model/frontend.ts';
import { compareText } from '../model/order.ts';

/** A frontend and the backends that its traffic policy selects. */
export interface ServedFrontend {
  /** "10.96.0.10:80/TCP". */
  readonly frontend: string;
  /** "namespace/name:portName". */
  readonly service: string;
  /** "10.244.1.2:8080", sorted as text like the candidates of `sluice explain`. */
  readonly backends: readonly string[];
}

/** One frontend of a plan. `sluice plan -o json` prints these fields in the order in which planRows() sets them. */
export interface PlanRow extends ServedFrontend {
  readonly type: FrontendType;
  readonly scope: Scope;
  /** Null without session affinity. */
  readonly affinitySeconds: number | null;
  /** Source ranges that this frontend checks. */
  readonly sourceRanges: readonly string[];
}

/** A frontend, or one backend of it, that the plan adds or removes. */
export interface PlanChange {
  readonly kind: 'added' | 'removed';
  readonly frontend: string;
  readonly service: string;
  /** Undefined when the frontend itself is added or removed. */
  readonly backend: string | undefined;
}

/** The rows of a plan, sorted by frontend as text. */
export function planRows(ports: Iterable<DesiredPort>): PlanRow[] {
  const rows = [...ports].flatMap((port) => port.frontends.map((frontend) => rowOf(port, frontend)));
  return rows.toSorted((a, b) => compareText(a.frontend, b.frontend));
}

function rowOf(port: DesiredPort, frontend: Frontend): PlanRow {
  return {
    frontend: frontendKey(frontend),
    service: `${port.namespace}/${port.name}:${port.portName}`,
    type: frontend.type,
    scope: scopeOf(frontend),
    backends: backendsFor(port, frontend.policy)
      .map(({ address, port: number }) => hostPort(address, number))
      .sort(),
    affinitySeconds: port.affinitySeconds === 0 ? null : port.affinitySeconds,
    sourceRanges: frontend.hasSourceRanges ? port.sourceRanges : [],
  };
}

/** The changes that lead from the served frontends to the planned ones, sorted by frontend, Service and backend. */
export function planChanges(served: readonly ServedFrontend[], planned: readonly ServedFrontend[]): PlanChange[] {
  const [before, after] = [itemsOf(served), itemsOf(planned)];
  const changes = [
    ...[...before].filter(([key]) => !after.has(key)).map(([key, item]) => ({ key, change: { kind: 'removed' as const, ...item } })),
    ...[...after].filter(([key]) => !before.has(key)).map(([key, item]) => ({ key, change: { kind: 'added' as const, ...item } })),
  ];
  return changes.toSorted((a, b) => compareText(a.key, b.key)).map(({ change }) => change);
}

/** One item per frontend and one per backend of a frontend. The keys sort a frontend directly before its backends. */
function itemsOf(frontends: readonly ServedFrontend[]): Map<string, Omit<PlanChange, 'kind'>> {
  const items = frontends.flatMap(({ frontend, service, backends }) =>
    [undefined, ...backends].map((backend) => ({ frontend, service, backend })),
  );
  return new Map(items.map((item) => [`${item.frontend} ${item.service}${item.backend === undefined ? '' : ` => ${item.backend}`}`, item]));
}
