// SPDX-License-Identifier: Apache-2.0
// What every group of rows by test run stands on: the harness, a bpffs of its own and the loaded product. close() removes
// what has been opened, however far that came.
import type { MapSizes } from '../../daemon/bpf/datapath.ts';
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

  /** For open(). */
  protected load(sizes?: MapSizes): Loaded {
    this.#harness = new Harness();
    this.#bpffs = new Bpffs();
    this.#loaded = new Loaded(this.#bpffs, sizes);
    return this.#loaded;
  }

  protected get harness(): Harness {
    if (this.#harness === undefined) throw new Error('not open');
    return this.#harness;
  }

  protected get loaded(): Loaded {
    if (this.#loaded === undefined) throw new Error('not open');
    return this.#loaded;
  }

  close(): void {
    this.#loaded?.datapath.close();
    this.#bpffs?.close();
    this.#harness?.close();
  }
}
