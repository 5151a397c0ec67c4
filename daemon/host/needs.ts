// SPDX-License-Identifier: Apache-2.0
// What must be there before anything is loaded: capabilities, a kernel with BPF and BTF, a cgroup v2 whose socket hooks are
// free. Each need is one function that returns a clause when it is met and throws a Refusal with the next step when not.
// Reads only. The daemon asks before it touches anything; `sluice preflight` shows the answers.
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { ExitCode, Refusal } from '../base/errors.ts';
import { findCgroup2, isCgroup2, missingCapabilities, readSysctl } from '../kernel/host.ts';
import { hasTcx } from '../kernel/link.ts';

export function needCapabilities(): string {
  const missing = missingCapabilities();
  if (missing.length === 0) return 'has CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN';
  throw new Refusal(
    ExitCode.capability,
    `this process lacks ${missing.join(', ')}: run it as root, or give the container these capabilities`,
  );
}

export function needKernel(): string {
  if (!existsSync('/sys/kernel/btf/vmlinux')) {
    throw new Refusal(
      ExitCode.kernel,
      `kernel ${release()} has no BTF (/sys/kernel/btf/vmlinux): run one built with CONFIG_DEBUG_INFO_BTF=y, as distributions do since 5.10`,
    );
  }
  const jit = readSysctl('net.core.bpf_jit_enable') === '0' ? ', JIT off: sysctl -w net.core.bpf_jit_enable=1 for speed' : '';
  return `${release()}, ${hasTcx() ? 'TCX' : 'no TCX, so clsact filters are used'}${jit}`;
}

/** Masqueraded flows must not take ports that the host gives to its own sockets. */
export function needOwnPorts(ranges: readonly { readonly first: number; readonly last: number }[]): string {
  const [first = 0, last = 0] = (readSysctl('net.ipv4.ip_local_port_range') ?? '').split(/\s+/).map(Number);
  const taken = ranges.find((range) => range.first <= last && first <= range.last);
  const text = ranges.map((range) => `${range.first}-${range.last}`).join(',');
  if (taken === undefined) return `source ports ${text} for masqueraded flows, apart from the host's ${first}-${last}`;
  throw new Refusal(
    ExitCode.config,
    `--snat-ports ${taken.first}-${taken.last} overlaps net.ipv4.ip_local_port_range ${first}-${last}: change one of the two`,
  );
}

/** The cgroup that socket hooks go on: the one that was named, else the cgroup2 mount. */
export function needCgroup(named: string | undefined): string {
  const cgroup = named ?? findCgroup2();
  if (cgroup === undefined) {
    throw new Refusal(ExitCode.cgroup, 'no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup, or --socket-lb off');
  }
  let isRight = false;
  try {
    isRight = isCgroup2(cgroup);
  } catch (cause) {
    throw new Refusal(ExitCode.cgroup, `--cgroup ${cgroup} cannot be opened: name a directory of a cgroup v2 mount`, { cause });
  }
  if (!isRight) throw new Refusal(ExitCode.cgroup, `--cgroup ${cgroup} is not cgroup v2: name a directory of a cgroup2 mount`);
  return cgroup;
}
