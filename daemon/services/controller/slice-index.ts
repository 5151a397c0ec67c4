// SPDX-License-Identifier: Apache-2.0
// EndpointSlices by the Service that they name, whether or not it exists: for all who follow the table of slices and think in
// Services. Each follower has one of its own, since each takes the changes at its own time.
import type { EndpointSlice } from '../../model/endpoint-slice.ts';
import { objectKey } from '../../model/object-key.ts';
import type { Change } from '../../table/table.ts';

export class SliceIndex {
  readonly #slices = new Map<string, Map<string, EndpointSlice>>();
  readonly #serviceOf = new Map<string, string>();

  /** Keys of the Services whose slices changed; of a slice that moved, both. */
  apply(changes: Iterable<Change<string, EndpointSlice>>): Set<string> {
    const touched = new Set<string>();
    for (const { key, row } of changes) {
      const before = this.#serviceOf.get(key);
      const after = row === undefined ? undefined : objectKey({ namespace: row.namespace, name: row.service });
      if (before !== undefined) touched.add(before);
      if (before !== undefined && before !== after) this.#remove(key, before);
      if (row === undefined || after === undefined) continue;
      touched.add(after);
      this.#serviceOf.set(key, after);
      const slices = this.#slices.get(after) ?? new Map<string, EndpointSlice>();
      this.#slices.set(after, slices.set(key, row));
    }
    return touched;
  }

  /** By key ("namespace/name"). */
  of(serviceKey: string): Iterable<EndpointSlice> {
    return this.#slices.get(serviceKey)?.values() ?? [];
  }

  #remove(slice: string, service: string): void {
    this.#serviceOf.delete(slice);
    const slices = this.#slices.get(service);
    slices?.delete(slice);
    if (slices?.size === 0) this.#slices.delete(service);
  }
}
