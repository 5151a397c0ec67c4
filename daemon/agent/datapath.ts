// SPDX-License-Identifier: Apache-2.0
// The first phase of a start: the host is checked, the pin directory is opened and locked, the maps and programs are loaded.
// Everything that can be rejected is rejected here, before anything is attached. The second phase (agent.ts) is built on the open
// datapath; main.ts closes the datapath when the second phase fails or ends.
import { requireAll } from '../base/check.ts';
import { cgroupCheck, pinPathCheck } from '../bpf/checks.ts';
import { Datapath, objectsPath } from '../bpf/datapath.ts';
import { mapSizes } from '../bpf/map-sizes.ts';
import { PinDirectory } from '../bpf/pins.ts';
import type { Config } from '../config/schema.ts';
import { hostChecks } from '../host/checks.ts';
import type { BpfMap } from '../kernel/map.ts';
import { kernelMaps, kernelSources } from '../maps/kernel-maps.ts';
import type { LbMaps, SourceMaps } from '../maps/types.ts';

export interface OpenDatapath {
  readonly pins: PinDirectory;
  readonly datapath: Datapath;
  readonly maps: LbMaps;
  readonly sourceMaps: SourceMaps;
  /** Closes the descriptors and releases the lock; maps, programs and links stay in the kernel. Idempotent. */
  close(): void;
}

/** Throws ExitError or KernelError, and then leaves nothing open. */
export function openDatapath(config: Config): OpenDatapath {
  const pins = new PinDirectory(config.pinPath);
  requireAll([...hostChecks(config), pinPathCheck(pins), cgroupCheck(config)]);
  pins.open();
  pins.lock();
  const datapath = new Datapath(pins, { objectsPath, sizes: mapSizes(config) });
  const close = (): void => {
    datapath.close();
    pins.unlock();
  };
  try {
    datapath.load();
    const open = (name: string): BpfMap => datapath.map(name);
    return { pins, datapath, maps: kernelMaps(open), sourceMaps: kernelSources(open), close };
  } catch (error) {
    close();
    throw error;
  }
}
