// SPDX-License-Identifier: Apache-2.0
// The messages about programs of other owners beside ours on a tc hook, grouped by program. Whether such a program ends the chain for a
// packet is its own decision, so the messages say only that it may. Computes only; hook-inspection.ts asks the kernel.
import { MOVE_INTERVAL_MS, MOVES_PER_HOUR } from './tc-hook.ts';

/** A program or filter of another owner on a tc hook with our program. */
export interface Neighbour {
  /** "the program theirs". */
  readonly name: string;
  /** Our program and its device: "tc_pod_in on lxc1". */
  readonly hook: string;
  readonly direction: 'ingress' | 'egress';
  /** Whether it runs before our program. */
  readonly isBefore: boolean;
  /** Whether our program on this hook is a filter. */
  readonly isFilter: boolean;
}

export interface OrderFindings {
  /** Programs that run before ours at ingress or after it at egress, so that ours is not in its place. */
  readonly displaced: readonly string[];
  /** Programs that run before ours at egress, where ours is last: they may hide packets from it. */
  readonly ahead: readonly string[];
}

const SHOWN_HOOKS = 3;

/** The first hooks, each once: "tc_pod_in on lxc1, tc_pod_in on lxc2, tc_pod_in on lxc3 and 9 more". */
export function hookList(programs: readonly { readonly hook: string }[]): string {
  const hooks = [...new Set(programs.map(({ hook }) => hook))];
  const more = hooks.length > SHOWN_HOOKS ? ` and ${hooks.length - SHOWN_HOOKS} more` : '';
  return `${hooks.slice(0, SHOWN_HOOKS).join(', ')}${more}`;
}

export function orderFindings(neighbours: readonly Neighbour[]): OrderFindings {
  const isDisplaced = ({ direction, isBefore }: Neighbour): boolean => isBefore === (direction === 'ingress');
  return {
    displaced: grouped(neighbours.filter(isDisplaced), displacedText),
    ahead: grouped(
      neighbours.filter((each) => each.isBefore && !isDisplaced(each)),
      aheadText,
    ),
  };
}

/** One message for each group of neighbours that differ only in the hook. */
function grouped(neighbours: readonly Neighbour[], textOf: (first: Neighbour, hooks: string) => string): string[] {
  const groups = Map.groupBy(neighbours, ({ name, direction, isFilter }) => `${direction} ${isFilter} ${name}`);
  return [...groups.values()].flatMap((group) => group.slice(0, 1).map((first) => textOf(first, hookList(group))));
}

function displacedText({ name, direction, isFilter }: Neighbour, hooks: string): string {
  const effect =
    direction === 'ingress'
      ? `runs before ${hooks}: it sees packets before they are translated, and may end the chain, so that they are not translated`
      : `runs after ${hooks}: it sees packets after they are translated, with other addresses than at ingress`;
  const remedy = isFilter
    ? `give the filter another priority number`
    : `sluiced moves its program on a hook at most once in ${MOVE_INTERVAL_MS / 1000} s and ${MOVES_PER_HOUR} times in an hour, so configure the other agent not to take this place`;
  return `${name} ${effect}: ${remedy}`;
}

const aheadText = ({ name }: Neighbour, hooks: string): string =>
  `${name} runs before ${hooks}: it may end the chain, with another verdict than TCX_NEXT or TC_ACT_UNSPEC, and packets for which it does so are not translated`;
