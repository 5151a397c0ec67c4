// SPDX-License-Identifier: Apache-2.0
// The double of the API server as a process of the soak. A line of JSON on stdin is a deed, answered by a line when it is done.
// Argument: where to write a kubeconfig. Its first line: "ready".
import { createInterface } from 'node:readline';
import type { Kind } from '../../daemon/source/kinds.ts';
import type { RawObject } from '../support/double/objects.ts';
import { serveDouble } from '../support/double/serve.ts';

export interface Deed {
  readonly put?: readonly RawObject[];
  /** By kind and "namespace/name". */
  readonly delete?: readonly (readonly [Kind, string])[];
  /** What happens to the watches: cut; cut, with all that was invalidated, so that everything is listed again; or garbage. */
  readonly trouble?: 'cut' | 'expire' | 'garbage';
}

const { api, close } = await serveDouble(process.argv[2] ?? '');

const troubles: Readonly<Record<NonNullable<Deed['trouble']>, () => void>> = {
  cut: () => api.cut(),
  expire: () => {
    api.store.compact();
    api.cut();
  },
  garbage: () => api.sendToWatches('{"type": "ADDED", "object": {]\n'),
};

process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const deed = JSON.parse(line) as Deed;
  api.put(...(deed.put ?? []));
  for (const [kind, key] of deed.delete ?? []) api.store.delete(kind, key);
  if (deed.trouble !== undefined) troubles[deed.trouble]();
  process.stdout.write('done\n');
}
await close();
