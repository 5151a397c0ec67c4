// SPDX-License-Identifier: Apache-2.0
// Removes everything that Sluice created on this node, or lists it. Removes only while no daemon of this pin path runs. It must not
// stop at an item that cannot be removed, and never remove what is not ours. Called by cli/uninstall.ts, which prints the results.
import { failureText } from '../base/reasons.ts';
import { ownRules } from '../firewall/forward-rules.ts';
import { plannedRemovals, type Removal, removals } from '../bpf/uninstall.ts';

export interface UninstallInput {
  readonly pinPath: string;
  readonly socket: string;
  /** Lists the items and removes nothing; may be used while the daemon runs. */
  readonly dryRun: boolean;
}

export interface RemovalResult {
  /** "link /sys/fs/bpf/sluice/links/sock_connect4". */
  readonly item: string;
  readonly outcome: 'would remove' | 'removed' | 'not removed' | 'would leave' | 'left';
  /** Why the item is still there, else "". */
  readonly reason: string;
}

export interface UninstallRun {
  /** Removes one item per step. */
  readonly results: Iterable<RemovalResult>;
  /** Process id of the daemon that runs with this pin path, 0 if unknown. Only a dry run returns it. */
  readonly daemon: number | undefined;
}

/** Throws ExitError when a daemon holds the pins, unless it is a dry run. */
export function uninstall({ pinPath, socket, dryRun }: UninstallInput): UninstallRun {
  if (!dryRun) return { results: [...removals({ pinPath, socket }), ...ruleRemovals()].values().map(outcomeOf), daemon: undefined };
  const planned = plannedRemovals({ pinPath, socket });
  return { results: [...planned.removals, ...ruleRemovals()].map(planOf), daemon: planned.daemon };
}

/** The rules of --accept-forwarded. */
function ruleRemovals(): Removal[] {
  try {
    return ownRules().map((rule) => ({ ...rule, left: undefined }));
  } catch (error) {
    return [{ what: 'rules of --accept-forwarded', left: `netfilter cannot be read: ${failureText(error)}`, remove: () => undefined }];
  }
}

const planOf = ({ what: item, left }: Removal): RemovalResult =>
  left === undefined ? { item, outcome: 'would remove', reason: '' } : { item, outcome: 'would leave', reason: left };

function outcomeOf({ what: item, left, remove }: Removal): RemovalResult {
  if (left !== undefined) return { item, outcome: 'left', reason: left };
  try {
    remove();
    return { item, outcome: 'removed', reason: '' };
  } catch (error) {
    return { item, outcome: 'not removed', reason: failureText(error) };
  }
}
