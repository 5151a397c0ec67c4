// SPDX-License-Identifier: Apache-2.0
// Removes everything that Sluice created on this node, or lists it. Removes only while no daemon of this pin path runs. It must not
// stop at an item that cannot be removed, and never remove what is not ours. Called by cli/uninstall.ts, which prints the results.
import { ExitCode, ExitError } from '../base/errors.ts';
import { failureText } from '../base/reasons.ts';
import { ownRules } from '../firewall/forward-rules.ts';
import { openFlowsOfPins } from '../bpf/draining.ts';
import { plannedRemovals, type Removal, removals } from '../bpf/uninstall.ts';

export interface UninstallInput {
  readonly pinPath: string;
  readonly socket: string;
  /** Lists the items and removes nothing; may be used while the daemon runs. */
  readonly dryRun: boolean;
  /** Also if the datapath drains and flows are open. */
  readonly isForced: boolean;
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
  /** "12 flows are open" if the datapath drains and flows are open, else "". Only a dry run returns a text. */
  readonly openFlows: string;
}

/** Unless it is a dry run, throws ExitError when a daemon holds the pins, or when flows are open after `sluice drain`. */
export function uninstall({ pinPath, socket, dryRun, isForced }: UninstallInput): UninstallRun {
  if (dryRun) {
    const planned = plannedRemovals({ pinPath, socket });
    return { results: [...planned.removals, ...ruleRemovals()].map(planOf), daemon: planned.daemon, openFlows: openFlowsText(pinPath) };
  }
  const found = removals({ pinPath, socket });
  const open = isForced ? '' : openFlowsText(pinPath);
  if (open !== '')
    throw new ExitError(
      ExitCode.failure,
      `${open}, and would break: wait until they have ended (\`sluice uninstall --dry-run\` counts them), or give --force`,
    );
  return { results: [...found, ...ruleRemovals()].values().map(outcomeOf), daemon: undefined, openFlows: '' };
}

/** The rules of --accept-forwarded. */
function ruleRemovals(): Removal[] {
  try {
    return ownRules().map((rule) => ({ ...rule, left: undefined }));
  } catch (error) {
    return [{ what: 'rules of --accept-forwarded', left: `netfilter cannot be read: ${failureText(error)}`, remove: () => undefined }];
  }
}

function openFlowsText(pinPath: string): string {
  const open = openFlowsOfPins(pinPath);
  const { tcp, udp, sctp } = open ?? { tcp: 0, udp: 0, sctp: 0 };
  const count = tcp + udp + sctp;
  return count === 0 ? '' : `${count} ${count === 1 ? 'flow is' : 'flows are'} open (TCP ${tcp}, UDP ${udp}, SCTP ${sctp})`;
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
