// SPDX-License-Identifier: Apache-2.0
// The rows of `sluice service list` and `sluice backend list`: the desired state, what the kernel holds, and the differences. They are
// generators, because a large cluster has 100,000 rows: the caller pauses between two elements, and an undefined element is only a place to
// pause. Each row is read completely at one moment, so that a change during a pause never looks like a difference. Reads only. Used by
// agent-status.ts.
import { type RealizedFrontend, RealizedReader } from '../maps/read/realized.ts';
import { frontendEntry } from '../maps/read/snapshot.ts';
import { flagsOf, flagsText, generationOf, mapKeyOf, mapKeyText } from '../maps/rows.ts';
import { type BackendMapValue, BackendState, FrontendFlag, type FrontendMapKey, type LbMaps } from '../maps/types.ts';
import { type Family, families, hostPort } from '../model/address.ts';
import { backendsFor, type DesiredPort, frontendKey, scopeOf } from '../model/frontend.ts';
import { compareText } from '../model/order.ts';
import type { Protocol } from '../model/service.ts';
import type { Reconciler } from '../table/reconciler.ts';
import type { Observer, TableView } from '../table/table.ts';
import { backendUse, type BackendView, type ServiceView } from './view.ts';

export interface ListParts {
  readonly desired: TableView<string, DesiredPort>;
  readonly portLoop: Pick<Reconciler<string, DesiredPort>, 'status'>;
  readonly maps: LbMaps;
  /** Key of the DesiredPort by service index. */
  readonly owners: () => ReadonlyMap<number, string>;
  /** Health check node port of the Service "namespace/name"; 0 if it has none. */
  readonly healthCheckPort: (service: string) => number;
}

/** Number of rows of the table of desired ports that are taken without a pause. */
const takenRows = 64;
/** Number of backend ids that are read without a pause. */
const readIds = 256;
/** Maximum number of lines about the differences of one Service port. */
const maxDifferences = 100;

/** Every Service port and every frontend in the kernel that no Service wants, sorted by key. */
export function* serviceViews(parts: ListParts): Generator<ServiceView | undefined, void> {
  const changes = parts.desired.observe();
  try {
    const wanted = new Wanted(changes);
    while (wanted.take()) yield undefined;
    // This is a map, because the batches in which the keys are read can repeat a key while other keys are added and deleted.
    const unwanted = new Map<string, { readonly family: Family; readonly key: FrontendMapKey }>();
    for (const family of families) {
      for (const key of parts.maps.frontends[family].keys()) {
        const text = mapKeyText(key);
        if (!wanted.frontends.has(text)) unwanted.set(text, { family, key });
        yield undefined;
      }
    }
    for (const key of [...wanted.ports, ...unwanted.keys()].sort(compareText)) {
      const port = parts.desired.get(key);
      const kernel = unwanted.get(key);
      if (port !== undefined) yield serviceView(parts, port);
      else if (kernel !== undefined) {
        // A Service may have begun to want the frontend since the table was read.
        while (wanted.take());
        const held = wanted.frontends.has(key) ? undefined : new RealizedReader(parts.maps).frontend(kernel.family, kernel.key);
        yield held === undefined ? undefined : unwantedView(held);
      }
    }
  } finally {
    changes.close();
  }
}

/** The keys of every port that was desired at any time since construction, and of all its frontends. A key is never removed. */
class Wanted {
  readonly ports = new Set<string>();
  readonly frontends = new Set<string>();
  readonly #changes: Observer<string, DesiredPort>;

  constructor(changes: Observer<string, DesiredPort>) {
    this.#changes = changes;
  }

  /** Adds the keys of some rows that were not taken yet. Returns false when there are no more. */
  take(): boolean {
    const changes = this.#changes.take(takenRows);
    for (const { key, row } of changes) {
      if (row === undefined) continue;
      this.ports.add(key);
      for (const frontend of row.frontends) this.frontends.add(frontendKey(frontend));
    }
    return changes.length > 0;
  }
}

function serviceView({ maps, portLoop, healthCheckPort }: ListParts, port: DesiredPort): ServiceView {
  const reader = new RealizedReader(maps);
  const frontends = port.frontends.map((frontend) => ({ frontend, held: reader.frontend(port.family, mapKeyOf(frontend)) }));
  const first = frontends.find(({ held }) => held !== undefined)?.held;
  const status = portLoop.status(port.key);
  return {
    ...{ id: first?.service ?? 0, key: port.key, namespace: port.namespace, name: port.name, portName: port.portName },
    ...{ protocol: port.protocol, family: port.family, isWanted: true },
    ...{ affinitySeconds: port.affinitySeconds, sourceRanges: port.sourceRanges },
    healthCheckNodePort: healthCheckPort(`${port.namespace}/${port.name}`),
    frontends: frontends.map(({ frontend, held }) => ({
      ...{ ...frontend, scope: scopeOf(frontend), isWanted: true, isRealized: held !== undefined },
    })),
    backends: port.backends.map((backend) => ({ ...backend, use: backendUse(backend) })),
    run: runOf(first),
    differences: listedDifferences(port, frontends),
    row: { state: status?.kind ?? 'pending', message: status?.error?.message ?? '', retries: status?.retries ?? 0 },
  };
}

/** Each backend of the run once, with the number of slots that name it. */
function runOf(held: RealizedFrontend | undefined): ServiceView['run'] {
  const byId = Map.groupBy(held?.backends ?? [], (backend) => backend.id);
  return [...byId.values()].flatMap(([backend, ...others]) =>
    backend === undefined ? [] : [{ id: backend.id, address: backend.address, port: backend.port, slots: 1 + others.length }],
  );
}

interface Compared {
  readonly frontend: DesiredPort['frontends'][number];
  readonly held: RealizedFrontend | undefined;
}

function listedDifferences(port: DesiredPort, frontends: readonly Compared[]): string[] {
  const lines: string[] = [];
  for (const line of differencesOf(port, frontends)) {
    if (lines.length === maxDifferences) return [...lines, 'there are further differences'];
    lines.push(line);
  }
  return lines;
}

/** One line for each difference between the kernel and the desired state. */
function* differencesOf(port: DesiredPort, frontends: readonly Compared[]): Generator<string, void> {
  const textsOf = (backends: readonly { address: string; port: number }[]): Set<string> =>
    new Set(backends.map((backend) => hostPort(backend.address, backend.port)));
  // Frontends of one port usually share their backends, and the reader returns the same array for all of them.
  const known = new Map<RealizedFrontend['backends'], Set<string>>();
  const heldTexts = (backends: RealizedFrontend['backends']): Set<string> => {
    const texts = known.get(backends) ?? textsOf(backends);
    known.set(backends, texts);
    return texts;
  };
  const wantedSets = { Cluster: textsOf(backendsFor(port, 'Cluster')), Local: textsOf(backendsFor(port, 'Local')) };
  for (const { frontend, held } of frontends) {
    if (held === undefined) {
      yield `kernel lacks frontend ${frontendKey(frontend)}`;
      continue;
    }
    if (held.flags !== flagsOf(frontend))
      yield `kernel has flags ${flagsText(held.flags)} for ${frontendKey(frontend)}, desired: ${flagsText(flagsOf(frontend))}`;
    const wanted = wantedSets[frontend.policy];
    const texts = heldTexts(frontend.policy === 'Local' ? held.localBackends : held.backends);
    for (const each of wanted.difference(texts)) yield `kernel lacks ${each} for ${frontendKey(frontend)}`;
    for (const each of texts.difference(wanted)) yield `kernel has ${each} for ${frontendKey(frontend)}, which is not desired`;
    if (held.dangling > 0) yield `slots of ${frontendKey(frontend)} that refer to no backend of the Service port: ${held.dangling}`;
  }
}

/** The view of a frontend that is in the kernel but that no Service port wants. */
function unwantedView(held: RealizedFrontend): ServiceView {
  const [, address = '', port = '', protocol = ''] = /^\[?([^\]]*?)\]?:(\d+)\/(\w+)$/.exec(held.key) ?? [];
  const text = held.key;
  const scope = (held.flags & FrontendFlag.external) === 0 ? 'internal' : 'external';
  return {
    ...{ id: held.service, key: text, namespace: '', name: '', portName: '', protocol: protocol as Protocol, family: held.family },
    ...{ isWanted: false, affinitySeconds: 0, sourceRanges: [], healthCheckNodePort: 0, backends: [], run: runOf(held) },
    frontends: [
      {
        ...{ address, port: Number(port), protocol: protocol as Protocol, scope, type: '', policy: '' },
        ...{ hasSourceRanges: (held.flags & FrontendFlag.ranges) !== 0, isWanted: false, isRealized: true },
      },
    ],
    differences: [`kernel has frontend ${text}, which is not desired`],
    row: { state: 'pending', message: '', retries: 0 },
  };
}

/** Every backend in the kernel, sorted by family and id. */
export function* backendViews(parts: ListParts): Generator<BackendView | undefined, void> {
  const owners = new Owners(parts);
  for (const family of families) {
    const map = parts.maps.backends[family];
    const frontendsOf = new Map<number, string[]>();
    for (const key of parts.maps.frontends[family].keys()) {
      addFrontend(frontendsOf, parts.maps, { family, key });
      yield undefined;
    }
    for (const texts of frontendsOf.values()) texts.sort(compareText);
    for (let base = 0; base < map.capacity; base += readIds) {
      yield undefined;
      owners.isFresh = false;
      const rows = map.rows({ base, count: Math.min(readIds, map.capacity - base) });
      // All rows of the group are compared before the first of them is yielded, because the caller may pause at each.
      yield* rows
        .filter(([, { meta }]) => (meta & BackendState.present) !== 0)
        .map(([id, row]) => backendView(owners, { id, family, row, frontendsOf }));
    }
  }
}

/** Finds the Service port that owns a backend, and whether the port wants the backend. */
class Owners {
  readonly #parts: ListParts;
  readonly #wanted = new WeakMap<DesiredPort, Set<string>>();
  #keys: ReadonlyMap<number, string>;
  /**
   * True if the owners were read since the last pause. Reading them takes a while, so they are read again only if the result depends on it.
   */
  isFresh = true;

  constructor(parts: ListParts) {
    this.#parts = parts;
    this.#keys = parts.owners();
  }

  of(row: BackendMapValue): { readonly service: string; readonly isWanted: boolean } {
    const service = this.#keys.get(row.service) ?? '';
    const isWanted = this.#isWanted(this.#parts.desired.get(service), hostPort(row.address, row.port));
    if (isWanted || this.isFresh) return { service, isWanted };
    // The index may have got another owner since the owners were read.
    this.#keys = this.#parts.owners();
    this.isFresh = true;
    return this.of(row);
  }

  #isWanted(port: DesiredPort | undefined, text: string): boolean {
    if (port === undefined) return false;
    const texts = this.#wanted.get(port) ?? new Set(port.backends.map((each) => hostPort(each.address, each.port)));
    this.#wanted.set(port, texts);
    return texts.has(text);
  }
}

interface BackendRow {
  readonly id: number;
  readonly family: Family;
  readonly row: BackendMapValue;
  readonly frontendsOf: ReadonlyMap<number, readonly string[]>;
}

function backendView(owners: Owners, { id, family, row, frontendsOf }: BackendRow): BackendView {
  const { address, port, service, meta } = row;
  return {
    ...{ id, family, address, port, ...owners.of(row), generation: generationOf(meta) },
    frontends: frontendsOf.get(service) ?? [],
    flags: (['usable', 'local', 'serving', 'present'] as const).filter((flag) => (meta & BackendState[flag]) !== 0),
  };
}

/** Adds the frontend to those of its service index. An entry that the programs ignore is under index 0. */
function addFrontend(
  frontendsOf: Map<number, string[]>,
  maps: LbMaps,
  { family, key }: { readonly family: Family; readonly key: FrontendMapKey },
): void {
  const value = maps.frontends[family].get(key);
  if (value === undefined) return;
  const { isSound, text } = frontendEntry(maps, family, [key, value]);
  const service = isSound ? value.service : 0;
  const texts = frontendsOf.get(service);
  if (texts === undefined) frontendsOf.set(service, [text]);
  else if (!texts.includes(text)) texts.push(text);
}
