// SPDX-License-Identifier: Apache-2.0
// Attaches programs: with BPF links to TCX and cgroup hooks, and with clsact filters where the kernel has no TCX (before Linux 6.6).
// An update replaces the program of a link atomically; the kernel frees the old program when its last run has ended. It must never
// touch a program or filter of another owner. Called by bpf/ and offline/.
import { closeSync, openSync } from 'node:fs';
import { isDenied, isNotFound, isNotSupported } from '../base/errors.ts';
import { checked, closeFd, kernelError, libbpf } from './native.ts';

/** Values of the kernel's enum bpf_attach_type. */
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
  /** Device of a TCX link; 0 for other links and when the device does not exist any more. */
  readonly ifindex: number;
}

/** struct bpf_link_info: type, id, prog_id, then fields by type. TCX: ifindex, attach_type. */
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

/** Id of the cgroup of a link, which is the inode number of the directory; 0 when the cgroup does not exist any more. */
export function cgroupOfLink(fd: number): bigint {
  const info = new Uint8Array(64);
  checked(libbpf.objInfo(fd, info, Uint32Array.of(info.length)), 'link info', `fd ${fd}`);
  return new DataView(info.buffer).getBigUint64(16, true);
}

/** Id of a program. struct bpf_prog_info begins with type, id. */
export function programId(fd: number): number {
  const info = new Uint8Array(8);
  checked(libbpf.objInfo(fd, info, Uint32Array.of(info.length)), 'program info', `fd ${fd}`);
  return new DataView(info.buffer).getUint32(4, true);
}

/** Name of a program, which the kernel cuts after 15 characters. struct bpf_prog_info: 64 bytes, then name[16]. */
export function programName(fd: number): string {
  const info = new Uint8Array(80);
  checked(libbpf.objInfo(fd, info, Uint32Array.of(info.length)), 'program info', `fd ${fd}`);
  return new TextDecoder().decode(info.subarray(64, 80)).replace(/\0.*$/s, '');
}

/** Opens a program by its id, which needs CAP_SYS_ADMIN. The caller owns the descriptor. */
export const programFdById = (id: number): number => checked(libbpf.programFdById(id), 'open program', `id ${id}`);

/**
 * Name of a loaded program by its id. Undefined when the program does not exist any more, or when this process lacks CAP_SYS_ADMIN: without
 * it, the kernel shows no program of another process.
 */
export function programNameById(id: number): string | undefined {
  let fd: number | undefined;
  try {
    fd = programFdById(id);
    return programName(fd);
  } catch (error) {
    if (isDenied(error) || isNotFound(error)) return undefined;
    throw error;
  } finally {
    if (fd !== undefined) closeFd(fd);
  }
}

/** Attaches a program to a TCX hook of a device; hasTcx() must be true. Returns the descriptor of the link. */
export function attachTcx(programFd: number, ifindex: number, isIngress: boolean): number {
  const type = isIngress ? AttachType.tcxIngress : AttachType.tcxEgress;
  return checked(libbpf.linkCreate(programFd, ifindex, type, null), 'attach tcx', `ifindex ${ifindex}`);
}

/** Ids of the programs on a TCX hook of a device, in the order in which they run. */
export function tcxPrograms(ifindex: number, isIngress: boolean): number[] {
  const ids = new Uint32Array(64);
  const count = Uint32Array.of(ids.length);
  const type = isIngress ? AttachType.tcxIngress : AttachType.tcxEgress;
  checked(libbpf.progQuery(ifindex, type, 0, null, ids, count), 'query tcx', `ifindex ${ifindex}`);
  return [...ids.subarray(0, count[0])];
}

/** Whether the kernel has TCX (Linux 6.6 and later). */
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
  /** BPF_F_ALLOW_OVERRIDE is 1, BPF_F_ALLOW_MULTI is 2. With 0, no other program may be attached to this cgroup or below it. */
  readonly flags: number;
}

/** The programs attached to a cgroup v2 directory itself. Programs of its parents are not included. */
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

/** Attaches a program to a cgroup v2 directory. Throws EPERM when another program is attached without BPF_F_ALLOW_MULTI. */
export function attachCgroup(programFd: number, directory: string, type: number): number {
  const fd = openDirectory(directory);
  try {
    return checked(libbpf.linkCreate(programFd, fd, type, null), 'attach cgroup', directory);
  } finally {
    closeSync(fd);
  }
}

/** Replaces the program of a link atomically: each packet is processed by the old program or by the new one. */
export function updateLink(linkFd: number, programFd: number): void {
  checked(libbpf.linkUpdate(linkFd, programFd, null), 'update link', `fd ${linkFd}`);
}

// Priority and handle of Sluice's filter on a clsact qdisc. Filters of other owners with a lower priority number run first.
const TC_PRIORITY = 49;
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

/** Attaches or replaces Sluice's filter on the clsact qdisc of a device. Creates the qdisc when it is missing. */
export function attachClsact(programFd: number, ifindex: number, isIngress: boolean): void {
  const hook = tcHook(ifindex, isIngress);
  const rc = libbpf.tcHookCreate(hook);
  if (rc !== -EEXIST) checked(rc, 'create clsact', `ifindex ${ifindex}`);
  checked(libbpf.tcAttach(hook, tcOptions(programFd, TC_REPLACE)), 'attach clsact', `ifindex ${ifindex}`);
}

/** Id of the program of Sluice's filter; undefined when the filter, the qdisc or the device does not exist. */
export function clsactProgram(ifindex: number, isIngress: boolean): number | undefined {
  const options = tcOptions(0, 0);
  const rc = libbpf.tcQuery(tcHook(ifindex, isIngress), options);
  if (rc === -ENOENT || rc === -EINVAL || rc === -ENODEV) return undefined;
  checked(rc, 'query clsact', `ifindex ${ifindex}`);
  return new DataView(options.buffer).getUint32(16, true);
}

/** Removes Sluice's filter. The qdisc stays, because other filters may use it. A missing filter, qdisc or device is not an error. */
export function detachClsact(ifindex: number, isIngress: boolean): void {
  const rc = libbpf.tcDetach(tcHook(ifindex, isIngress), tcOptions(0, 0));
  if (rc !== -ENOENT && rc !== -EINVAL && rc !== -ENODEV) checked(rc, 'detach clsact', `ifindex ${ifindex}`);
}
