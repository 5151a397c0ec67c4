// SPDX-License-Identifier: Apache-2.0
// The checks of what bpf/ needs on the host: a bpffs for pins, pinned maps of this layout, programs that the verifier accepts,
// free socket hooks, and the order of the programs on an uplink. Attaches and pins nothing.
import { type Check, CheckSkipped, CheckWarning } from '../base/check.ts';
import { hasTcx, tcxPrograms } from '../kernel/link.ts';
import { links } from '../kernel/rtnetlink.ts';
import { requireFreeHooks, socketCgroup } from './cgroup.ts';
import type { Datapath } from './datapath.ts';
import { parseDevicePin, type PinDirectory } from './pins.ts';

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

/** Warns of a TCX program that is attached already: it runs before ours, and its verdict may end the chain. */
function order(name: string, pins: PinDirectory): string {
  const link = links().find((each) => each.name === name);
  if (link === undefined) throw new CheckSkipped(`${name} does not exist`);
  if (!hasTcx()) throw new CheckSkipped('the kernel has no TCX; filters of a lower priority number run before ours');
  if (pins.list('links').some((pin) => parseDevicePin(pin)?.ifindex === link.ifindex))
    throw new CheckSkipped(`our programs are on ${name} already, and keep their place`);
  const others = [...tcxPrograms(link.ifindex, true), ...tcxPrograms(link.ifindex, false)];
  if (others.length === 0) return 'no other program runs before ours';
  throw new CheckWarning(
    `TCX program ${others.join(', ')} is on ${name} already: our programs run after it, and see only packets that it passes on with TCX_NEXT`,
  );
}
