// SPDX-License-Identifier: Apache-2.0
// The realized state of each frontend, read from the maps alone, for comparison with the desired rows. It must not use state of the
// daemon, because it has to reveal errors in that state. Used by the status and by tests.
import type { Family } from '../../model/address.ts';
import { generationOf, stateOf } from '../rows.ts';
import { BackendState, type FrontendMapKey, type LbMaps } from '../types.ts';
import { frontendEntry, readRun } from './snapshot.ts';

export interface RealizedBackend {
  readonly id: number;
  readonly generation: number;
  readonly address: string;
  readonly port: number;
  readonly isUsable: boolean;
  readonly isLocallyUsable: boolean;
  readonly isLocal: boolean;
  readonly isServing: boolean;
}

export interface RealizedFrontend {
  /** frontendKey(): "10.96.0.10:80/TCP". */
  readonly key: string;
  readonly family: Family;
  /** Index into lb_services; 0 when the programs ignore the entry because its check is wrong or lb_services has no such index. */
  readonly service: number;
  /** FrontendFlag bits. */
  readonly flags: number;
  /** Backends of policy Cluster in slot order, one for each slot. Slots without a backend of this service are omitted; see dangling. */
  readonly backends: readonly RealizedBackend[];
  /** Backends of policy Local, in the same form. */
  readonly localBackends: readonly RealizedBackend[];
  /** Number of slots, in both sets together, that do not refer to a backend of this service. */
  readonly dangling: number;
}

/** The backends in the slots of a service index, in one family. All frontends of one Service port have the same slots. */
type Run = Pick<RealizedFrontend, 'backends' | 'localBackends' | 'dangling'>;

const empty: Run = { backends: [], localBackends: [], dangling: 0 };

/**
 * Reads one frontend at a time, as it is at that moment. An instance reads the slots of each Service port only once, so it must be used
 * only for frontends that are read at the same moment.
 */
export class RealizedReader {
  readonly #maps: LbMaps;
  readonly #runs = new Map<string, Run>();

  constructor(maps: LbMaps) {
    this.#maps = maps;
  }

  /** Undefined when the map has no such entry. Throws what the maps throw. */
  frontend(family: Family, mapKey: FrontendMapKey): RealizedFrontend | undefined {
    const value = this.#maps.frontends[family].get(mapKey);
    if (value === undefined) return undefined;
    const { text: key, flags, isSound } = frontendEntry(this.#maps, family, [mapKey, value]);
    if (!isSound) return { key, family, service: 0, flags, ...empty };
    return { key, family, service: value.service, flags, ...this.#run(family, value.service) };
  }

  #run(family: Family, service: number): Run {
    const name = `${family} ${service}`;
    let run = this.#runs.get(name);
    if (run === undefined) {
      run = this.#readRun(family, service);
      this.#runs.set(name, run);
    }
    return run;
  }

  #readRun(family: Family, service: number): Run {
    const maps = this.#maps;
    const { base, count, localBase, localCount } = maps.services.get(service);
    // Reads each backend once, because a backend usually has several slots.
    const read = new Map<number, RealizedBackend | undefined>();
    const backendOf = (id: number): RealizedBackend | undefined => {
      if (!read.has(id)) read.set(id, realizedBackend(maps, { family, id, service }));
      return read.get(id);
    };
    const [slots, localSlots] = [
      { base, count },
      { base: localBase, count: localCount },
    ].map((range) => readRun(maps, range) ?? []);
    const backendsOf = (ids: readonly number[] = []): RealizedBackend[] => ids.map(backendOf).filter((backend) => backend !== undefined);
    const [backends, localBackends] = [backendsOf(slots), backendsOf(localSlots)];
    const dangling = (slots?.length ?? 0) - backends.length + (localSlots?.length ?? 0) - localBackends.length;
    return { backends, localBackends, dangling };
  }
}

/** Undefined when the map has no such backend of this service. */
function realizedBackend(
  maps: LbMaps,
  { family, id, service }: { readonly family: Family; readonly id: number; readonly service: number },
): RealizedBackend | undefined {
  if (id === 0 || id >= maps.backends[family].capacity) return undefined;
  const { address, port, meta, service: owner } = maps.backends[family].get(id);
  if (owner !== service || stateOf(meta) === 0) return undefined;
  const has = (bit: number): boolean => (meta & bit) !== 0;
  return {
    ...{ id, generation: generationOf(meta), address, port },
    isUsable: has(BackendState.usable),
    isLocallyUsable: has(BackendState.locallyUsable),
    isLocal: has(BackendState.local),
    isServing: has(BackendState.serving),
  };
}
