// SPDX-License-Identifier: Apache-2.0
// The set-up of a kernel test file. Before its tests it creates a namespace and a bpffs and loads the datapath. After its tests it removes
// them, even if loading failed.
import { afterAll, beforeAll } from 'vitest';
import type { MapSizes } from '../../daemon/bpf/map-sizes.ts';
import { Bpffs, enterNamespace, Loaded, smallSizes } from './fixture.ts';

/** Registers the hooks of vitest. `take` receives the loaded datapath. */
export function loadForFile(take: (loaded: Loaded) => void, sizes: MapSizes = smallSizes): void {
  let bpffs: Bpffs | undefined;
  let loaded: Loaded | undefined;
  beforeAll(() => {
    enterNamespace();
    bpffs = new Bpffs();
    loaded = new Loaded(bpffs, sizes);
    // New maps are in the phase migrating.
    loaded.datapath.phase = 'serving';
    take(loaded);
  });
  afterAll(() => {
    loaded?.datapath.close();
    bpffs?.close();
  });
}
