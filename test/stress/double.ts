// SPDX-License-Identifier: Apache-2.0
// Runs the API server double as a process of the soak and of the abuse test. Each line of JSON on stdin is a command; the process prints
// "done" when it has carried out the command. Argument: path of the kubeconfig to write. The process prints "ready" first. places.ts starts
// it.
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import type { Kind } from '../../daemon/source/kinds.ts';
import type { RawObject } from '../support/double/objects.ts';
import { serveDouble } from '../support/double/serve.ts';

export interface Command {
  readonly put?: readonly RawObject[];
  /** Kind and "namespace/name" of each object. */
  readonly delete?: readonly (readonly [Kind, string])[];
  /**
   * Disturbs the watches. "cut" breaks them. "expire" also removes the history, so that clients list again.
   * "garbage" sends invalid JSON. "endless" sends a line that does not end.
   */
  readonly trouble?: 'cut' | 'expire' | 'garbage' | 'endless';
  /** Waits until the daemon has an undisturbed watch for each of these kinds, so that it receives what was put before. */
  readonly delivers?: readonly Kind[];
}

/** Length of the line that does not end: more bytes than any event of a real API server has. */
const ENDLESS_BYTES = 64 << 20;

const { api, close } = await serveDouble(process.argv[2] ?? '');

const troubles: Readonly<Record<NonNullable<Command['trouble']>, () => void>> = {
  cut: () => api.cut(),
  expire: () => {
    api.store.compact();
    api.cut();
  },
  garbage: () => api.sendToWatches('{"type": "ADDED", "object": {]\n'),
  endless: () => api.sendToWatches('x'.repeat(ENDLESS_BYTES)),
};

process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line) as Command;
  api.put(...(command.put ?? []));
  for (const [kind, key] of command.delete ?? []) api.store.delete(kind, key);
  if (command.trouble !== undefined) troubles[command.trouble]();
  while (!(command.delivers ?? []).every((kind) => api.delivers(kind))) await pause(1);
  process.stdout.write('done\n');
}
await close();
