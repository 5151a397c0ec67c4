// SPDX-License-Identifier: Apache-2.0
// The base class of the groups that use BPF_PROG_TEST_RUN: the harness, a bpffs and the loaded programs of Sluice. close()
// removes everything that was opened, also if open() failed.
import type { MapSizes } from '../../daemon/bpf/map-sizes.ts';
import { Bpffs, Loaded } from '../kernel/fixture.ts';
import { Harness } from './harness.ts';
import type { Group, Row, Sample } from './row.ts';

export abstract class TestRunGroup<R extends Row = Row> implements Group<R> {
  abstract readonly rows: readonly R[];
  #harness: Harness | undefined;
  #bpffs: Bpffs | undefined;
  #loaded: Loaded | undefined;

  abstract open(): void;

  abstract round(rows: readonly R[]): Sample[];

  /** Called by open(). */
  protected load(sizes?: MapSizes): Loaded {
    this.#harness = new Harness();
    this.#bpffs = new Bpffs();
    this.#loaded = new Loaded(this.#bpffs, sizes);
    return this.#loaded;
  }

  protected get harness(): Harness {
    if (this.#harness === undefined) throw new Error('open() was not called');
    return this.#harness;
  }

  protected get loaded(): Loaded {
    if (this.#loaded === undefined) throw new Error('open() was not called');
    return this.#loaded;
  }

  close(): void {
    this.#loaded?.datapath.close();
    this.#bpffs?.close();
    this.#harness?.close();
  }
}
