// SPDX-License-Identifier: Apache-2.0
// The checks of what bpf/ needs on the host: a bpffs for pins, pinned maps of this layout, programs that the verifier accepts,
// free socket hooks, and the order of the programs on an uplink. Attaches and pins nothing.
import { type Check, CheckWarning } from '../base/check.ts';
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
  { name: 'pinned state', run: () => datapath.describePinned() },
  { name: 'programs', run: () => datapath.verify() },
];

export const cgroupCheck = ({ socketLb, cgroup }: SocketSettings): Check => ({
  name: 'cgroup',
  run: () => (socketLb ? requireFreeHooks(socketCgroup(cgroup)) : 'not needed: --socket-lb off'),
});

export const orderChecks = (uplinks: readonly string[], pins: PinDirectory): Check[] =>
  uplinks.map((name) => ({ name: `order on ${name}`, run: () => order(name, pins) }));

/** Warns of a TCX program that is attached already: it runs before ours, and its verdict may end the chain. */
function order(name: string, pins: PinDirectory): string {
  const link = links().find((each) => each.name === name);
  const hasOurs = pins.list('links').some((pin) => parseDevicePin(pin)?.ifindex === link?.ifindex);
  if (link === undefined || !hasTcx() || hasOurs) return 'no other program runs before ours';
  const others = [...tcxPrograms(link.ifindex, true), ...tcxPrograms(link.ifindex, false)];
  if (others.length === 0) return 'no other program runs before ours';
  throw new CheckWarning(
    `TCX program ${others.join(', ')} is on ${name} already: our programs run after it, and see only packets that it passes on with TCX_NEXT`,
  );
}
