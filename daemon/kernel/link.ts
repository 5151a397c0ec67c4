// SPDX-License-Identifier: Apache-2.0
// Attaching programs: BPF links (TCX on devices, cgroup hooks) and, where the kernel has no TCX (before 6.6), a clsact
// filter. A link is replaced by one atomic update; the program that it held goes when nobody runs it any more.
import { closeSync, openSync } from 'node:fs';
import { isNotSupported } from '../base/errors.ts';
import { checked, kernelError, libbpf } from './native.ts';

/** Attach types of the kernel's enum bpf_attach_type. */
export const AttachType = {
  tcxIngress: 46,
  tcxEgress: 47,
  connect4: 10,
  connect6: 11,
  sendmsg4: 14,
  sendmsg6: 15,
  recvmsg4: 19,
  recvmsg6: 20,
  getpeername4: 29,
  getpeername6: 30,
} as const;

const LINK_TYPE_TCX = 11;
const LOOPBACK = 1;

export interface LinkInfo {
  readonly id: number;
  readonly programId: number;
  /** TCX: 0 once the device is gone. */
  readonly ifindex: number;
}

/** struct bpf_link_info: type, id, prog_id, then by type; tcx: ifindex, attach_type. */
export function linkInfo(fd: number): LinkInfo {
  const info = new Uint8Array(64);
  checked(libbpf.objInfo(fd, info, Uint32Array.of(info.length)), 'link info', `fd ${fd}`);
  const view = new DataView(info.buffer);
  const type = view.getUint32(0, true);
  return {
    id: view.getUint32(4, true),
    programId: view.getUint32(8, true),
    ifindex: type === LINK_TYPE_TCX ? view.getUint32(16, true) : 0,
  };
}

/** Id of the cgroup that a link is attached to: the inode number of its directory. 0: the cgroup is gone. */
export function cgroupOfLink(fd: number): bigint {
  const info = new Uint8Array(64);
  checked(libbpf.objInfo(fd, info, Uint32Array.of(info.length)), 'link info', `fd ${fd}`);
  return new DataView(info.buffer).getBigUint64(16, true);
}

/** Id of a program: struct bpf_prog_info begins with type, id. */
export function programId(fd: number): number {
  const info = new Uint8Array(8);
  checked(libbpf.objInfo(fd, info, Uint32Array.of(info.length)), 'program info', `fd ${fd}`);
  return new DataView(info.buffer).getUint32(4, true);
}

/** Attaches to a device's tc hook, where hasTcx(). Returns the link's descriptor. */
export function attachTcx(programFd: number, ifindex: number, isIngress: boolean): number {
  const type = isIngress ? AttachType.tcxIngress : AttachType.tcxEgress;
  return checked(libbpf.linkCreate(programFd, ifindex, type, null), 'attach tcx', `ifindex ${ifindex}`);
}

/** Ids of the programs on a device's TCX hook, in the order in which they run. */
export function tcxPrograms(ifindex: number, isIngress: boolean): number[] {
  const ids = new Uint32Array(64);
  const count = Uint32Array.of(ids.length);
  const type = isIngress ? AttachType.tcxIngress : AttachType.tcxEgress;
  checked(libbpf.progQuery(ifindex, type, 0, null, ids, count), 'query tcx', `ifindex ${ifindex}`);
  return [...ids.subarray(0, count[0])];
}

/** The kernel has TCX (6.6 and later). */
export function hasTcx(): boolean {
  try {
    tcxPrograms(LOOPBACK, true);
    return true;
  } catch (error) {
    if (isNotSupported(error)) return false;
    throw error;
  }
}

function openDirectory(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw kernelError('open', path, -((error as NodeJS.ErrnoException).errno ?? 0));
  }
}

export interface CgroupPrograms {
  readonly ids: readonly number[];
  /** BPF_F_ALLOW_OVERRIDE 1, BPF_F_ALLOW_MULTI 2; 0: the one program there tolerates no other, here or below. */
  readonly flags: number;
}

/** The programs attached to a cgroup (v2) directory itself, not to those above it. */
export function cgroupPrograms(directory: string, type: number): CgroupPrograms {
  const fd = openDirectory(directory);
  try {
    const ids = new Uint32Array(64);
    const count = Uint32Array.of(ids.length);
    const flags = new Uint32Array(1);
    checked(libbpf.progQuery(fd, type, 0, flags, ids, count), 'query cgroup', directory);
    return { ids: [...ids.subarray(0, count[0])], flags: flags[0] ?? 0 };
  } finally {
    closeSync(fd);
  }
}

/** Attaches to a cgroup (v2) directory. EPERM: another program holds the hook without the multi flag. */
export function attachCgroup(programFd: number, directory: string, type: number): number {
  const fd = openDirectory(directory);
  try {
    return checked(libbpf.linkCreate(programFd, fd, type, null), 'attach cgroup', directory);
  } finally {
    closeSync(fd);
  }
}

/** Replaces the program of a link between two packets. */
export function updateLink(linkFd: number, programFd: number): void {
  checked(libbpf.linkUpdate(linkFd, programFd, null), 'update link', `fd ${linkFd}`);
}

// Ours on the clsact qdisc: the first filter we own.
const TC_PRIORITY = 49; // behind filters of others that were there first
const TC_HANDLE = 0x5c;
const TC_REPLACE = 1;
const EEXIST = 17;
const ENOENT = 2;
const ENODEV = 19;
const EINVAL = 22;

/** struct bpf_tc_hook: sz, ifindex, attach_point, parent. */
function tcHook(ifindex: number, isIngress: boolean): Uint8Array {
  const hook = new Uint8Array(24);
  const view = new DataView(hook.buffer);
  view.setBigUint64(0, BigInt(hook.length), true);
  view.setInt32(8, ifindex, true);
  view.setInt32(12, isIngress ? 1 : 2, true);
  return hook;
}

/** struct bpf_tc_opts: sz, prog_fd, flags, prog_id, handle, priority. */
function tcOptions(programFd: number, flags: number): Uint8Array {
  const options = new Uint8Array(32);
  const view = new DataView(options.buffer);
  view.setBigUint64(0, BigInt(options.length), true);
  view.setInt32(8, programFd, true);
  view.setUint32(12, flags, true);
  view.setUint32(20, TC_HANDLE, true);
  view.setUint32(24, TC_PRIORITY, true);
  return options;
}

/** Attaches or replaces our filter on a device's clsact qdisc, which is made if it is missing. */
export function attachClsact(programFd: number, ifindex: number, isIngress: boolean): void {
  const hook = tcHook(ifindex, isIngress);
  const rc = libbpf.tcHookCreate(hook);
  if (rc !== -EEXIST) checked(rc, 'create clsact', `ifindex ${ifindex}`);
  checked(libbpf.tcAttach(hook, tcOptions(programFd, TC_REPLACE)), 'attach clsact', `ifindex ${ifindex}`);
}

/** Id of the program of our filter; undefined when there is no such filter, qdisc or device. */
export function clsactProgram(ifindex: number, isIngress: boolean): number | undefined {
  const options = tcOptions(0, 0);
  const rc = libbpf.tcQuery(tcHook(ifindex, isIngress), options);
  if (rc === -ENOENT || rc === -EINVAL || rc === -ENODEV) return undefined;
  checked(rc, 'query clsact', `ifindex ${ifindex}`);
  return new DataView(options.buffer).getUint32(16, true);
}

/** Removes our filter; the qdisc stays, others may use it. A missing filter, qdisc or device is no error. */
export function detachClsact(ifindex: number, isIngress: boolean): void {
  const rc = libbpf.tcDetach(tcHook(ifindex, isIngress), tcOptions(0, 0));
  if (rc !== -ENOENT && rc !== -EINVAL && rc !== -ENODEV) checked(rc, 'detach clsact', `ifindex ${ifindex}`);
}
