// SPDX-License-Identifier: Apache-2.0
// Filters on the clsact qdisc of a device: attaches, finds and detaches the filter of Sluice, and lists all filters in the order in which
// they run. The kernel runs them after the TCX programs of the same hook, in order of their priority numbers. It must never change a filter
// of another owner. Called by bpf/ and offline/.
import { checked, libbpf } from './native.ts';
import { attributes, NetlinkSocket } from './netlink.ts';

/** The handle marks the filter of Sluice. It is far above the handles that the kernel assigns, which count from 1. */
const TC_HANDLE = 0x51d1ce;
const FIRST_PRIORITY = 1;
const LAST_PRIORITY = 0xffff;
const TC_REPLACE = 1;
const EEXIST = 17;
const ENOENT = 2;
const ENODEV = 19;
const EINVAL = 22;

const RTM_GETTFILTER = 46;
const INGRESS_HOOK = 0xfffffff2;
const EGRESS_HOOK = 0xfffffff3;
/** A hook that clsact does not have. */
const NO_HOOK = 0xfffffff4;
const TCMSG_BYTES = 20;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_CHAIN = 11;
const TCA_BPF_NAME = 7;
const TCA_BPF_ID = 11;
const ETH_P_ALL = 3;

/** A filter on a clsact hook. */
export interface Filter {
  /** "bpf", "flower", "u32" and so on. */
  readonly kind: string;
  readonly priority: number;
  /** Id of the BPF program; undefined for other kinds. */
  readonly programId: number | undefined;
  /** The name that the owner of a BPF filter gave it, usually that of the program; for other kinds the kind. */
  readonly name: string;
  readonly isOurs: boolean;
  /** Whether it can share its priority with the filter of Sluice, which needs the same kind and protocol. */
  readonly isCompatible: boolean;
}

const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes ?? new Uint8Array()).replace(/\0.*$/s, '');
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const word = (bytes: Uint8Array | undefined): number | undefined => (bytes === undefined ? undefined : viewOf(bytes).getUint32(0, true));

/** struct tcmsg: family, padding, ifindex, handle, parent, info. */
function tcMessage(ifindex: number, parent: number): Uint8Array {
  const body = new Uint8Array(TCMSG_BYTES);
  const view = viewOf(body);
  view.setInt32(4, ifindex, true);
  view.setUint32(12, parent, true);
  return body;
}

/** The filter in a message; undefined for a message that describes a list of filters, and for a filter that runs only after a jump. */
function filterOf(body: Uint8Array): Filter | undefined {
  const view = viewOf(body);
  const handle = view.getUint32(8, true);
  const info = view.getUint32(16, true);
  const found = attributes(body.subarray(TCMSG_BYTES));
  if (handle === 0 || (word(found.get(TCA_CHAIN)) ?? 0) !== 0) return undefined;
  const kind = text(found.get(TCA_KIND));
  const isBpf = kind === 'bpf';
  const options = isBpf ? attributes(found.get(TCA_OPTIONS) ?? new Uint8Array()) : new Map<number, Uint8Array>();
  // The low half of `info` is the protocol in network byte order.
  const protocol = ((info & 0xff) << 8) | ((info >> 8) & 0xff);
  return {
    ...{ kind, priority: info >>> 16, programId: word(options.get(TCA_BPF_ID)) },
    // libbpf and tc append the id or the file of the program in brackets.
    name: text(options.get(TCA_BPF_NAME)).replace(/:\[[^\]]*\]$/, '') || kind,
    ...{ isOurs: isBpf && handle === TC_HANDLE, isCompatible: isBpf && protocol === ETH_P_ALL },
  };
}

/** Reads filters with one socket for many devices, because opening a socket takes longer than reading the filters of a device. */
export class FilterReader {
  /** Opened at the first use. */
  #socket: NetlinkSocket | undefined;

  /** The filters on the clsact hook of a device, in the order in which they run; none when the device or its clsact qdisc does not exist. */
  read(ifindex: number, isIngress: boolean): Filter[] {
    if (isIngress) return this.#dump(ifindex, INGRESS_HOOK);
    const found = this.#dump(ifindex, EGRESS_HOOK);
    // The older ingress qdisc has no egress hook: it lists its filters of ingress for every hook, also for one that does not exist.
    return found.length > 0 && this.#dump(ifindex, NO_HOOK).length > 0 ? [] : found;
  }

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  #dump(ifindex: number, hook: number): Filter[] {
    this.#socket ??= new NetlinkSocket();
    return this.#socket.dump(RTM_GETTFILTER, tcMessage(ifindex, hook), 'filters').flatMap(({ body }) => filterOf(body) ?? []);
  }
}

/** Like FilterReader.read(), for one device. */
export function clsactFilters(ifindex: number, isIngress: boolean): Filter[] {
  const reader = new FilterReader();
  try {
    return reader.read(ifindex, isIngress);
  } finally {
    reader.close();
  }
}

/** The priority at which a new filter runs first at ingress or last at egress. A priority of filters of another kind is skipped. */
function freePriority(filters: readonly Filter[], isIngress: boolean): number {
  const taken = new Set(filters.filter(({ isCompatible }) => !isCompatible).map(({ priority }) => priority));
  let priority = isIngress ? FIRST_PRIORITY : LAST_PRIORITY;
  while (taken.has(priority)) priority += isIngress ? 1 : -1;
  return priority;
}

/** struct bpf_tc_hook: sz, ifindex, attach_point, parent. */
function tcHook(ifindex: number, isIngress: boolean): Uint8Array {
  const hook = new Uint8Array(24);
  const view = viewOf(hook);
  view.setBigUint64(0, BigInt(hook.length), true);
  view.setInt32(8, ifindex, true);
  view.setInt32(12, isIngress ? 1 : 2, true);
  return hook;
}

/** struct bpf_tc_opts: sz, prog_fd, flags, prog_id, handle, priority. */
function tcOptions({ programFd = 0, flags = 0, priority }: { programFd?: number; flags?: number; priority: number }): Uint8Array {
  const options = new Uint8Array(32);
  const view = viewOf(options);
  view.setBigUint64(0, BigInt(options.length), true);
  view.setInt32(8, programFd, true);
  view.setUint32(12, flags, true);
  view.setUint32(20, TC_HANDLE, true);
  view.setUint32(24, priority, true);
  return options;
}

/**
 * Attaches Sluice's filter, first at ingress and last at egress, or replaces its program and keeps its place. Creates the qdisc when it is
 * missing.
 */
export function attachClsact(programFd: number, ifindex: number, isIngress: boolean): void {
  const hook = tcHook(ifindex, isIngress);
  const rc = libbpf.tcHookCreate(hook);
  if (rc !== -EEXIST) checked(rc, 'create clsact', `ifindex ${ifindex}`);
  const filters = clsactFilters(ifindex, isIngress);
  const priority = filters.find(({ isOurs }) => isOurs)?.priority ?? freePriority(filters, isIngress);
  checked(libbpf.tcAttach(hook, tcOptions({ programFd, flags: TC_REPLACE, priority })), 'attach clsact', `ifindex ${ifindex}`);
}

/** Id of the program of Sluice's filter; undefined when the filter, the qdisc or the device does not exist. */
export const clsactProgram = (ifindex: number, isIngress: boolean): number | undefined =>
  clsactFilters(ifindex, isIngress).find(({ isOurs }) => isOurs)?.programId;

/** Removes Sluice's filter. The qdisc stays, because other filters may use it. A missing filter, qdisc or device is not an error. */
export function detachClsact(ifindex: number, isIngress: boolean): void {
  const found = clsactFilters(ifindex, isIngress).find(({ isOurs }) => isOurs);
  if (found === undefined) return;
  const rc = libbpf.tcDetach(tcHook(ifindex, isIngress), tcOptions({ priority: found.priority }));
  if (rc !== -ENOENT && rc !== -EINVAL && rc !== -ENODEV) checked(rc, 'detach clsact', `ifindex ${ifindex}`);
}
