// SPDX-License-Identifier: Apache-2.0
// Removes everything that Sluice created on this node, or lists it. Works only while no daemon runs. It must not stop at an item
// that cannot be removed. Called by cli/uninstall.ts, which prints the results.
import { failureText } from '../base/reasons.ts';
import { removals } from '../bpf/uninstall.ts';

export interface UninstallInput {
  readonly pinPath: string;
  readonly socket: string;
  /** Lists the items and removes nothing. */
  readonly dryRun: boolean;
}

export interface RemovalResult {
  /** "link /sys/fs/bpf/sluice/links/sock_connect4". */
  readonly item: string;
  readonly outcome: 'would remove' | 'removed' | 'not removed';
  /** Why the item was not removed, else "". */
  readonly error: string;
}

/** Removes one item per step. Throws ExitError at the first step when a daemon holds the pins. */
export function* uninstall({ pinPath, socket, dryRun }: UninstallInput): Generator<RemovalResult> {
  for (const { what: item, remove } of removals({ pinPath, socket })) {
    if (dryRun) {
      yield { item, outcome: 'would remove', error: '' };
      continue;
    }
    yield outcomeOf(item, remove);
  }
}

function outcomeOf(item: string, remove: () => void): RemovalResult {
  try {
    remove();
    return { item, outcome: 'removed', error: '' };
  } catch (error) {
    return { item, outcome: 'not removed', error: failureText(error) };
  }
}
