// SPDX-License-Identifier: Apache-2.0
// Attaches programs with BPF links to TCX and cgroup hooks (clsact.ts: with clsact filters). An update replaces the program of a link
// atomically; the kernel frees the old program when its last run has ended. It must never touch a program of another owner. Called by
// bpf/ and offline/.
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
// Without a program or link to which they relate, these flags mean first and last.
const BPF_F_BEFORE = 1 << 3;
const BPF_F_AFTER = 1 << 4;

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

/** A place on a TCX hook. */
interface TcxPlace {
  readonly ifindex: number;
  readonly isIngress: boolean;
  /** First or last of the programs that are on the hook now. */
  readonly place: 'first' | 'last';
}

/**
 * Attaches a program to a TCX hook of a device; hasTcx() must be true. Returns the descriptor of the link. Throws EEXIST when the program
 * is on the hook already.
 */
export function attachTcxAt(programFd: number, { ifindex, isIngress, place }: TcxPlace): number {
  const type = isIngress ? AttachType.tcxIngress : AttachType.tcxEgress;
  // struct bpf_link_create_opts begins with sz, flags.
  const options = new Uint8Array(16);
  const view = new DataView(options.buffer);
  view.setBigUint64(0, BigInt(options.length), true);
  view.setUint32(8, place === 'first' ? BPF_F_BEFORE : BPF_F_AFTER, true);
  return checked(libbpf.linkCreate(programFd, ifindex, type, options), 'attach tcx', `ifindex ${ifindex}`);
}

/** Like attachTcxAt(), in the place of Sluice's programs: first at ingress, last at egress. */
export const attachTcx = (programFd: number, ifindex: number, isIngress: boolean): number =>
  attachTcxAt(programFd, { ifindex, isIngress, place: isIngress ? 'first' : 'last' });

/** Detaches a link from its hook at once. The link stays until its pin and its descriptors are gone. */
export function detachLink(linkFd: number): void {
  checked(libbpf.linkDetach(linkFd), 'detach link', `fd ${linkFd}`);
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
