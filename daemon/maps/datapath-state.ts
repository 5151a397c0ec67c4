// SPDX-License-Identifier: Apache-2.0
// Maps of the datapath that are not reconciled: the drop counters, and the configuration row with the layout version, the phase and the hash
// seed. Layout version and seed are written once, when the maps are new. Called by bpf/ and agent/.
import { randomBytes } from 'node:crypto';
import type { BpfMap } from '../kernel/map.ts';
import type { Phase as PhaseName } from '../model/phase.ts';
import { decoded, encoded } from './codec.ts';
import { DropReason, Layout, type LbConfig, lbConfigCodec, lbDropCodec, Phase } from './gen/layouts.ts';

export interface DropCount {
  /** Name of the reason in enum drop_reason, without its prefix: "NO_BACKEND". */
  readonly reason: string;
  readonly packets: number;
  readonly bytes: number;
}

const reasons = Object.entries(DropReason).filter(([name]) => name !== 'DROP_NONE' && name !== 'DROP_REASONS');
const zero = Uint8Array.of(0, 0, 0, 0);

/** Counters of all reasons, summed over the CPUs, since the maps were created. `drops` is lb_drops, a per-CPU array. */
export function dropCounts(drops: BpfMap): DropCount[] {
  return reasons.map(([name, index]) => {
    const perCpu = drops.get(new Uint8Array(Uint32Array.of(index).buffer)) ?? new Uint8Array();
    let packets = 0;
    let bytes = 0;
    for (let at = 0; at + lbDropCodec.size <= perCpu.length; at += lbDropCodec.size) {
      const count = decoded(lbDropCodec, perCpu.subarray(at, at + lbDropCodec.size));
      packets += Number(count.packets);
      bytes += Number(count.bytes);
    }
    return { reason: name.replace(/^DROP_/, ''), packets, bytes };
  });
}

const configRow = (config: BpfMap): LbConfig => decoded(lbConfigCodec, config.get(zero) ?? new Uint8Array(lbConfigCodec.size));

/** Layout version of the pinned maps; 0 when the maps are new. This daemon supports Layout.LAYOUT_VERSION. */
export const layoutVersion = (config: BpfMap): number => configRow(config).layout;

/**
 * Writes the configuration row if the maps are new. The hash seed stays the same as long as the maps are pinned. The first phase is migrating,
 * because kube-proxy may have open connections.
 */
export function initializeConfig(config: BpfMap): void {
  if (layoutVersion(config) !== 0) return;
  const seed = [...new BigUint64Array(new Uint8Array(randomBytes(16)).buffer)];
  config.set(zero, encoded(lbConfigCodec, { layout: Layout.LAYOUT_VERSION, phase: Phase.PHASE_MIGRATING, seed }));
}

const phases: Readonly<Record<PhaseName, number>> = {
  serving: Phase.PHASE_SERVING,
  migrating: Phase.PHASE_MIGRATING,
  draining: Phase.PHASE_DRAINING,
};

/** Reads the phase from lb_config. An unknown number means serving, as in the programs. */
export function readPhase(config: BpfMap): PhaseName {
  const { phase } = configRow(config);
  return (Object.keys(phases) as PhaseName[]).find((name) => phases[name] === phase) ?? 'serving';
}

/** The programs follow the phase from the next packet on. */
export function writePhase(config: BpfMap, phase: PhaseName): void {
  config.set(zero, encoded(lbConfigCodec, { ...configRow(config), phase: phases[phase] }));
}
