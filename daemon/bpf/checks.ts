// SPDX-License-Identifier: Apache-2.0
// The checks of what bpf/ needs on the host: a bpffs for pins, pinned maps of this layout, programs that the verifier accepts,
// free socket hooks, and the order of the programs on an uplink. Attaches and pins nothing.
import { type Check, CheckSkipped, CheckWarning } from '../base/check.ts';
import { clsactFilters } from '../kernel/clsact.ts';
import { hasTcx, tcxPrograms } from '../kernel/link.ts';
import { links } from '../kernel/rtnetlink.ts';
import { requireFreeHooks, socketCgroup } from './cgroup.ts';
import type { Datapath } from './datapath.ts';
import { parseDevicePin, type PinDirectory } from './pins.ts';
import { programText } from './tc-hook.ts';

export interface SocketSettings {
  readonly socketLb: boolean;
  readonly cgroup?: string | undefined;
}

export function pinPathCheck(pins: PinDirectory): Check {
  const run = (): string => {
    pins.refuseUnusable();
    return `${pins.path} can hold our pins`;
  };
  return { name: 'bpffs', run };
}

/**
 * Checks the maps that an earlier daemon pinned, and whether the verifier accepts each program. The programs are loaded and
 * closed again.
 */
export const datapathChecks = (datapath: Datapath): Check[] => [
  { name: 'pinned state', run: () => pinnedState(datapath) },
  { name: 'programs', run: () => datapath.verify() },
];

function pinnedState(datapath: Datapath): string {
  const { summary, problems } = datapath.describePinned();
  if (problems.length > 0) throw new CheckWarning(problems.join('; '));
  return summary;
}

export const cgroupCheck = ({ socketLb, cgroup }: SocketSettings): Check => ({
  name: 'cgroup',
  run: () => {
    if (!socketLb) throw new CheckSkipped('--socket-lb is off, so nothing is attached to a cgroup');
    return requireFreeHooks(socketCgroup(cgroup));
  },
});

export const orderChecks = (uplinks: readonly string[], pins: PinDirectory): Check[] =>
  uplinks.map((name) => ({ name: `order on ${name}`, run: () => order(name, pins) }));

/**
 * Warns of programs and filters at egress. Ours will run after them, and their verdict may end the chain. At ingress ours will run first,
 * also where the kernel has no TCX.
 */
function order(name: string, pins: PinDirectory): string {
  const link = links().find((each) => each.name === name);
  if (link === undefined) throw new CheckSkipped(`${name} does not exist`);
  if ([...pins.list('links'), ...pins.list('clsact')].some((pin) => parseDevicePin(pin)?.ifindex === link.ifindex))
    throw new CheckSkipped(`our programs are on ${name} already: \`sluice status\` names the programs that run before them`);
  const others = [
    ...(hasTcx() ? tcxPrograms(link.ifindex, false).map((id) => `the TCX program ${programText(id)}`) : []),
    ...new Set(clsactFilters(link.ifindex, false).map((filter) => `the filter ${filter.name}`)),
  ];
  if (others.length === 0) return 'no other program runs before ours';
  throw new CheckWarning(
    `at egress of ${name}: ${others.join(', ')}: our program runs after them, and sees only packets that they pass on with TCX_NEXT or TC_ACT_UNSPEC`,
  );
}
