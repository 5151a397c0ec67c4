// SPDX-License-Identifier: Apache-2.0
// Converts the size settings to max_entries of the pinned maps, and records which flag sets each size. Describes pinned maps whose size
// differs. Pure.
import { SLOTS_PER_ROW } from '../maps/types.ts';

const RANGES = 65_536;

/** Size of a map, and the flag that sets it. */
export interface MapSize {
  readonly entries: number;
  /** Without "--". */
  readonly flag: string;
  /** Converts a number of entries of the map to the value of the flag that sets this size. Default: the number itself. */
  readonly valueFor?: (entries: number) => number;
}

/** Sizes of maps by name. Maps that are not in here have the size that the object file defines. */
export interface MapSizes {
  readonly [map: string]: MapSize;
}

/** A pinned map whose size differs from the size that the settings ask for. */
export interface PinnedSize {
  readonly map: string;
  readonly pinnedEntries: number;
  readonly wanted: MapSize;
}

/** The size settings of the configuration, under the same names. */
export interface MapLimits {
  readonly maxServices: number;
  readonly maxFrontends: number;
  readonly maxBackends: number;
  readonly maxSlots: number;
  readonly maxFlows: number;
  readonly maxSocketFlows: number;
}

export function mapSizes(limits: MapLimits): MapSizes {
  const entries = (count: number, flag: string): MapSize => ({ entries: count, flag });
  const frontends = entries(limits.maxFrontends, 'max-frontends');
  // The tries have enough entries for every ClusterIP and source range. Unused entries need no memory, because the kernel allocates an
  // entry of a trie when it is added.
  const ranges = { ...entries(2 * limits.maxFrontends + RANGES, 'max-frontends'), valueFor: (count: number) => (count - RANGES) / 2 };
  const backends = entries(limits.maxBackends, 'max-backends');
  const flows = entries(limits.maxFlows, 'max-flows');
  const peers = entries(limits.maxSocketFlows, 'max-socket-flows');
  return {
    ...{ lb4_frontends: frontends, lb6_frontends: frontends, lb4_backends: backends, lb6_backends: backends },
    ...{ lb4_ranges: ranges, lb6_ranges: ranges },
    lb_services: entries(limits.maxServices, 'max-services'),
    lb_slots: { ...entries(limits.maxSlots / SLOTS_PER_ROW, 'max-slots'), valueFor: (count: number) => count * SLOTS_PER_ROW },
    ...{ ct4: flows, ct6: flows, sk4_backends: peers, sk6_backends: peers, sk4_vips: peers, sk6_vips: peers },
  };
}

/** One message for each flag whose value differs from the size of its pinned map. The message says what to do next. */
export function sizeProblems(differences: readonly PinnedSize[], pinPath: string): string[] {
  const byFlagAndValue = Map.groupBy(differences, ({ wanted, pinnedEntries }) => `${wanted.flag} ${valueOf(wanted, pinnedEntries)}`);
  return [...byFlagAndValue.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const { flag, entries } = first.wanted;
    const [set, used] = [valueOf(first.wanted, entries), valueOf(first.wanted, first.pinnedEntries)];
    const maps = group.map(({ map }) => map).sort();
    return [
      `--${flag} is ${set}, but the pinned ${maps.length === 1 ? 'map' : 'maps'} ${maps.join(', ')} ${maps.length === 1 ? 'was' : 'were'} created for ${used}, and sluiced uses the pinned size: set --${flag} ${used}, or stop sluiced, run \`sluice uninstall --pin-path ${pinPath}\`, which interrupts the Services of this node, and start sluiced again`,
    ];
  });
}

const valueOf = ({ valueFor = (count) => count }: MapSize, entries: number): number => valueFor(entries);
