// SPDX-License-Identifier: Apache-2.0
// Turns the size settings into max_entries of the pinned maps, with the flag that each comes from. Pure.
import { SLOTS_PER_ROW } from '../maps/types.ts';
import type { MapSizes } from './datapath.ts';

const RANGES = 65_536;

/** The settings with these names. */
export interface MapLimits {
  readonly maxServices: number;
  readonly maxFrontends: number;
  readonly maxBackends: number;
  readonly maxSlots: number;
  readonly maxFlows: number;
  readonly maxSocketFlows: number;
}

export function mapSizes(limits: MapLimits): MapSizes {
  const entries = (count: number, flag: string): { entries: number; flag: string } => ({ entries: count, flag });
  const frontends = entries(limits.maxFrontends, 'max-frontends');
  // Enough for every ClusterIP and source range. The kernel allocates the entries of a trie only as they are added.
  const ranges = entries(2 * limits.maxFrontends + RANGES, 'max-frontends');
  const backends = entries(limits.maxBackends, 'max-backends');
  const flows = entries(limits.maxFlows, 'max-flows');
  const peers = entries(limits.maxSocketFlows, 'max-socket-flows');
  return {
    ...{ lb4_frontends: frontends, lb6_frontends: frontends, lb4_backends: backends, lb6_backends: backends },
    ...{ lb4_ranges: ranges, lb6_ranges: ranges },
    lb_services: entries(limits.maxServices, 'max-services'),
    lb_slots: entries(limits.maxSlots / SLOTS_PER_ROW, 'max-slots'),
    ...{ ct4: flows, ct6: flows, sk4_backends: peers, sk6_backends: peers, sk4_vips: peers, sk6_vips: peers },
  };
}
