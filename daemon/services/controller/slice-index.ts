// SPDX-License-Identifier: Apache-2.0
// EndpointSlices by the Service that they name, whether or not the Service exists. Used by each class that handles slices by
// Service. Each class has its own index, because the classes apply changes at different times.
import type { EndpointSlice } from '../../model/endpoint-slice.ts';
import { objectKey } from '../../model/object-key.ts';
import type { Change } from '../../table/table.ts';

export class SliceIndex {
  readonly #slices = new Map<string, Map<string, EndpointSlice>>();
  readonly #serviceOf = new Map<string, string>();

  /** Returns the keys of the Services whose slices changed. A slice that moved to another Service changes both Services. */
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

  /** Slices of the Service with the key "namespace/name". */
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
