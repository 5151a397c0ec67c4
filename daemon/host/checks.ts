// SPDX-License-Identifier: Apache-2.0
// Checks what the host must have before anything is loaded: capabilities, a kernel with BPF and BTF, source ports that the host
// does not use, and the devices that the settings name. Reads only.
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { type Check, CheckWarning } from '../base/check.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import { descriptorLimit, missingCapabilities, readSysctl } from '../kernel/host.ts';
import { hasTcx } from '../kernel/link.ts';
import { addresses, links } from '../kernel/rtnetlink.ts';
import { addressText, isLinkLocal, isLoopback } from '../model/address.ts';
import {
  type DeviceSettings,
  hasPodPrefix,
  type JudgedDevice,
  missingPodInterfaces,
  missingUplink,
  noUplink,
  otherLinkHeader,
} from '../model/device.ts';
import { serviceCidrProblem } from '../model/service-cidr.ts';

type PortRanges = readonly { readonly first: number; readonly last: number }[];

/** The checks that a start must pass. */
export const hostChecks = (settings: { readonly snatPorts: PortRanges }): Check[] => [
  { name: 'descriptors', run: descriptors },
  { name: 'capabilities', run: capabilities },
  { name: 'kernel', run: kernel },
  { name: 'source ports', run: () => sourcePorts(settings.snatPorts) },
];

/**
 * The checks of the devices to which programs are attached. A start does not require the devices, since they may appear later. `judged`
 * returns every device with its role.
 */
export const deviceChecks = ({ uplinks, podInterfaces }: DeviceSettings, judged: () => readonly JudgedDevice[]): Check[] => [
  ...named(uplinks).map((name) => ({ name: `uplink ${name}`, run: () => namedUplink(name) })),
  ...named(podInterfaces).map((prefix) => ({ name: `pod interfaces ${prefix}*`, run: () => prefixed(prefix) })),
  { name: 'devices', run: () => roles(judged(), uplinks === 'auto') },
];

const named = (setting: DeviceSettings['uplinks']): readonly string[] => (setting === 'auto' ? [] : setting);

/** The checks of the Service CIDRs in the settings. Those of ServiceCIDR objects are in the status only. */
export const serviceCidrChecks = (settings: {
  readonly serviceCidr: readonly string[];
  readonly clusterCidr: readonly string[];
}): Check[] => settings.serviceCidr.map((cidr) => ({ name: `Service CIDR ${cidr}`, run: () => serviceCidr(cidr, settings.clusterCidr) }));

/**
 * Minimum limit of open descriptors: about 160 for maps, programs and libraries, 2 for each device with programs, and some for connections.
 */
const MIN_DESCRIPTORS = 256;

function descriptors(): string {
  const limit = descriptorLimit();
  if (limit >= MIN_DESCRIPTORS) return `this process may open ${limit} files`;
  throw new ExitError(
    ExitCode.config,
    `this process may open ${limit} files, and sluiced needs at least ${MIN_DESCRIPTORS}, and 2 for each pod: raise the limit (ulimit -n, or LimitNOFILE= of the service manager)`,
  );
}

function capabilities(): string {
  const missing = missingCapabilities();
  if (missing.length === 0) return 'the process has CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN';
  throw new ExitError(
    ExitCode.capability,
    `this process lacks ${missing.join(', ')}: run it as root, or give the container these capabilities`,
  );
}

function kernel(): string {
  if (!existsSync('/sys/kernel/btf/vmlinux')) {
    throw new ExitError(
      ExitCode.kernel,
      `kernel ${release()} has no BTF (/sys/kernel/btf/vmlinux): run one built with CONFIG_DEBUG_INFO_BTF=y, as distributions do since 5.10`,
    );
  }
  const jit = readSysctl('net.core.bpf_jit_enable') === '0' ? ', JIT off: sysctl -w net.core.bpf_jit_enable=1 for speed' : '';
  return `${release()}, ${hasTcx() ? 'TCX' : 'no TCX, so clsact filters are used'}${jit}`;
}

/** Masqueraded flows must not use ports that the kernel gives to the host's own sockets. */
function sourcePorts(ranges: PortRanges): string {
  const [first = 0, last = 0] = (readSysctl('net.ipv4.ip_local_port_range') ?? '').split(/\s+/).map(Number);
  const taken = ranges.find((range) => range.first <= last && first <= range.last);
  const text = ranges.map((range) => `${range.first}-${range.last}`).join(',');
  if (taken === undefined)
    return `source ports ${text} for masqueraded flows do not overlap the host's ip_local_port_range ${first}-${last}`;
  throw new ExitError(
    ExitCode.config,
    `--snat-ports ${taken.first}-${taken.last} overlaps net.ipv4.ip_local_port_range ${first}-${last}: change one of the two`,
  );
}

function namedUplink(name: string): string {
  const link = links().find((each) => each.name === name);
  if (link === undefined) throw new CheckWarning(missingUplink(name));
  if (link.linkHeader === 'other') throw new CheckWarning(`uplink ${name} gets no programs, because ${otherLinkHeader}`);
  return `exists, MTU ${link.mtu}`;
}

function prefixed(prefix: string): string {
  const count = links().filter((link) => hasPodPrefix(link, [prefix])).length;
  if (count === 0) throw new CheckWarning(missingPodInterfaces(prefix));
  return count === 1 ? '1 interface matches now' : `${count} interfaces match now`;
}

/** Maximum number of devices of one role that a message lists. */
const SHOWN_DEVICES = 20;

/** Every device with its role. */
function roles(devices: readonly JudgedDevice[], mustHaveUplink: boolean): string {
  const { uplink = [], pod = [], none = [] } = Object.groupBy(devices, ({ role }) => role);
  const withReason = ({ name, reason }: JudgedDevice): string => `${name} (${reason})`;
  const text = [
    `uplinks: ${listed(uplink.map(withReason))}`,
    `pod interfaces: ${listed(pod.map(({ name }) => name))}`,
    `without programs: ${listed(none.map(withReason))}`,
    'pods with macvlan, ipvlan or SR-IOV interfaces get socket translation only',
  ].join('; ');
  if (mustHaveUplink && uplink.length === 0) throw new CheckWarning(`${noUplink}; ${text}`);
  return text;
}

function listed(texts: readonly string[]): string {
  const more = texts.length - SHOWN_DEVICES;
  if (texts.length === 0) return 'none';
  return `${texts.slice(0, SHOWN_DEVICES).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

function serviceCidr(cidr: string, pods: readonly string[]): string {
  const texts = addresses().flatMap(({ address }) => (address.length === 0 ? [] : [addressText(address)]));
  const own = texts.filter((text) => !isLoopback(text) && !isLinkLocal(text));
  const problem = serviceCidrProblem(cidr, { own, pods });
  if (problem !== undefined) throw new CheckWarning(problem);
  return 'contains no address of this node or of pods';
}
