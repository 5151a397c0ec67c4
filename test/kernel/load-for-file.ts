// SPDX-License-Identifier: Apache-2.0
// The set-up of a kernel test file: a namespace, a bpffs and the loaded product before its tests, gone after them, also when
// loading failed half way.
import { afterAll, beforeAll } from 'vitest';
import type { MapSizes } from '../../daemon/bpf/datapath.ts';
import { Bpffs, enterNamespace, Loaded, smallSizes } from './fixture.ts';

/** Registers the hooks; `take` gets what was loaded. */
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
