// SPDX-License-Identifier: Apache-2.0
// Whether this host can be served, asked without changing anything: every need of host-needs.ts, the pin path and what is
// pinned there, the verifier's word on each program (loaded, never attached or pinned, gone again), devices, forwarding.
// A need that is not met is "failed" and has the exit code that sluiced would end with; what only hinders is a warning.
import { accessSync, constants } from 'node:fs';
import { ExitCode, KernelError, Refusal } from '../base/errors.ts';
import { hasTcx, tcxPrograms } from '../kernel/link.ts';
import { links } from '../kernel/rtnetlink.ts';
import type { Family } from '../model/address.ts';
import { Datapath, objectsPath } from '../bpf/datapath.ts';
import { needFreeHooks } from '../bpf/free-hooks.ts';
import { forwardingProblems } from '../host/forwarding.ts';
import { needCapabilities, needCgroup, needKernel, needOwnPorts } from '../host/needs.ts';
import { mapSizes, type MapLimits } from '../bpf/map-sizes.ts';
import { parseDevicePin, PinDirectory } from '../bpf/pins.ts';

/** The settings of the same names. */
export interface PreflightSettings extends MapLimits {
  readonly source?: string | undefined;
  readonly pinPath: string;
  readonly socketLb: boolean;
  readonly snatPorts: readonly { readonly first: number; readonly last: number }[];
  readonly cgroup?: string | undefined;
  readonly uplinks: readonly string[];
  readonly podInterfaces: readonly string[];
}

export interface Check {
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'failed';
  /** What was found; when not ok, with the next step. */
  readonly message: string;
  /** What sluiced would end with: 0 unless failed. */
  readonly exitCode: number;
}

/** Every check, in the order in which sluiced would meet them. */
export function preflight(settings: PreflightSettings): Check[] {
  const pins = new PinDirectory(settings.pinPath);
  const datapath = new Datapath(pins, { objectsPath, sizes: mapSizes(settings) });
  return [
    check('capabilities', needCapabilities),
    check('kernel', needKernel),
    check('source ports', () => needOwnPorts(settings.snatPorts)),
    check('bpffs', () => {
      pins.refuseUnusable();
      return `${settings.pinPath} can hold our pins`;
    }),
    check('pinned state', () => datapath.describePinned()),
    check('programs', () => datapath.verify()),
    check('cgroup', () => (settings.socketLb ? needFreeHooks(needCgroup(settings.cgroup)) : 'not needed: --socket-lb off')),
    ...settings.uplinks.map((name) => check(`uplink ${name}`, () => uplink(name))),
    ...settings.podInterfaces.map((prefix) => check(`pods ${prefix}*`, () => `${podsOf(prefix)} of them are there now`)),
    ...settings.uplinks.map((name) => check(`order on ${name}`, () => order(name, pins))),
    check('source', () => (settings.source === undefined ? 'the API server, which is not asked here' : readable(settings.source))),
    ...forwardingProblems({
      ...{ serviceAddresses: [], hasSocketLb: settings.socketLb, families: new Set<Family>(['IPv4', 'IPv6']) },
      hasDevices: settings.podInterfaces.length + settings.uplinks.length > 0,
    }).map((message): Check => ({ name: 'host', state: 'warning', message, exitCode: ExitCode.ok })),
  ];
}

/** Something that does not keep sluiced from starting. */
class Warning extends Error {}

function check(name: string, ask: () => string): Check {
  try {
    return { name, state: 'ok', message: ask(), exitCode: ExitCode.ok };
  } catch (error) {
    if (error instanceof Warning) return { name, state: 'warning', message: error.message, exitCode: ExitCode.ok };
    if (error instanceof Refusal) return { name, state: 'failed', message: error.message, exitCode: error.exitCode };
    // What an earlier failure implies, such as EPERM without capabilities.
    if (error instanceof KernelError) return { name, state: 'failed', message: error.message, exitCode: ExitCode.kernel };
    throw error;
  }
}

function uplink(name: string): string {
  const link = links().find((each) => each.name === name);
  if (link === undefined) throw new Warning(`uplink ${name} does not exist: its programs would wait for it`);
  if (!link.isEthernet) throw new Warning(`uplink ${name} does not carry Ethernet frames: Sluice cannot serve it`);
  return `is there, MTU ${link.mtu}`;
}

const podsOf = (prefix: string): number => links().filter((link) => link.kind === 'veth' && link.name.startsWith(prefix)).length;

/** A TCX program that is there already runs before ours, and may end the walk with its verdict. */
function order(name: string, pins: PinDirectory): string {
  const link = links().find((each) => each.name === name);
  const hasOurs = pins.list('links').some((pin) => parseDevicePin(pin)?.ifindex === link?.ifindex);
  if (link === undefined || !hasTcx() || hasOurs) return 'nothing runs before our programs';
  const others = [...tcxPrograms(link.ifindex, true), ...tcxPrograms(link.ifindex, false)];
  if (others.length === 0) return 'nothing runs before our programs';
  throw new Warning(
    `TCX program ${others.join(', ')} is on ${name} already: ours run behind it, and see only what it lets on with TCX_NEXT`,
  );
}

function readable(directory: string): string {
  try {
    accessSync(directory, constants.R_OK | constants.X_OK);
  } catch (cause) {
    throw new Refusal(
      ExitCode.config,
      `--source ${directory} cannot be read (${(cause as NodeJS.ErrnoException).code ?? ''}): name a directory`,
      {
        cause,
      },
    );
  }
  return `${directory} can be read`;
}
