// SPDX-License-Identifier: Apache-2.0
// The set-up of a kernel test file: a namespace, a bpffs and the loaded datapath before its tests, and the clean-up after them, also when
// loading failed.
import { afterAll, beforeAll } from 'vitest';
import type { MapSizes } from '../../daemon/bpf/datapath.ts';
import { Bpffs, enterNamespace, Loaded, smallSizes } from './fixture.ts';

/** Registers the hooks of vitest. `take` receives the loaded datapath. */
export function loadForFile(take: (loaded: Loaded) => void, sizes: MapSizes = smallSizes): void {
  let bpffs: Bpffs | undefined;
  let loaded: Loaded | undefined;
  beforeAll(() => {
    enterNamespace();
    bpffs = new Bpffs();
    loaded = new Loaded(bpffs, sizes);
    take(loaded);
  });
  afterAll(() => {
    loaded?.datapath.close();
    bpffs?.close();
  });
}
