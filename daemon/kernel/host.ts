// SPDX-License-Identifier: Apache-2.0
// Small system calls on the host: the network namespace cookie, sysctls, advisory locks, sd_notify, file system types, capabilities,
// options of listening sockets, the limit of descriptors and the end of the process. It must never change the host. Called by main.ts,
// host/, bpf/ and agent/.
import { closeSync, openSync, readFileSync, statSync, statfsSync } from 'node:fs';
import { checkedErrno, closeFd, errno, errnoName, kernelError, libc, uninterrupted } from './native.ts';

const LOCK_EX_NB = 2 | 4;
const EAGAIN = 11;
const AF_UNIX = 1;
const EPROTOTYPE = 91;
const SOCK_STREAM_CLOEXEC_NONBLOCK = 1 | 0o2000000 | 0o4000;
const SO_PEERCRED = 17;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const BPF_FS_MAGIC = 0xcafe4a11;
const CGROUP2_MAGIC = 0x63677270;

const SO_NETNS_COOKIE = 71;
const SOL_SOCKET = 1;

/** Cookie of this thread's network namespace (Linux 5.14): the value that bpf_get_netns_cookie() returns. */
export function netnsCookie(): bigint {
  const fd = checkedErrno(libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0), 'socket', 'network namespace cookie');
  try {
    const cookie = new BigUint64Array(1);
    checkedErrno(libc.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, Uint32Array.of(8)), 'getsockopt', 'SO_NETNS_COOKIE');
    return cookie[0] ?? 0n;
  } finally {
    closeFd(fd);
  }
}

/** CLOCK_MONOTONIC in ns, as bpf_ktime_get_ns() returns it. */
export const monotonicNs = (): bigint => process.hrtime.bigint();

const IPPROTO_TCP = 6;
const TCP_DEFER_ACCEPT = 9;

/**
 * Lets a listening TCP socket return a connection only when its first bytes have arrived, or after about the given time. Until then the
 * connection is an entry of the SYN queue, whose length is the backlog. When that is full, the kernel uses SYN cookies, and returns
 * further connections at once.
 */
export function deferAccept(fd: number, seconds: number): void {
  checkedErrno(libc.setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, Uint32Array.of(seconds), 4), 'setsockopt', 'TCP_DEFER_ACCEPT');
}

/** Another descriptor of the same socket. Whoever uses it must close it. */
export const duplicate = (fd: number): number => checkedErrno(libc.dup(fd), 'dup', 'a socket');

/**
 * Value of a sysctl ("net.ipv4.ip_forward") in this network namespace; undefined when the kernel has no such sysctl. In a name with slashes
 * ("net/ipv6/conf/eth0.5/mtu") a dot is a dot, as in sysctl(8).
 */
export function readSysctl(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name.includes('/') ? name : name.replaceAll('.', '/')}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/**
 * Takes an exclusive advisory lock on a directory until release() or the end of the process. Returns undefined when the lock is
 * taken already.
 */
export function lockDirectory(path: string): { release(): void } | undefined {
  const fd = openSync(path, 'r');
  const rc = uninterrupted(() => libc.flock(fd, LOCK_EX_NB));
  const failed = errno();
  if (rc === 0) return { release: () => closeSync(fd) };
  closeSync(fd);
  if (failed === EAGAIN) return undefined;
  throw kernelError('lock', path, failed);
}

/**
 * Process id of the holder of the lock of lockDirectory(): 0 for a process of another PID namespace, undefined if nobody holds the lock. A
 * line of /proc/locks is "1: FLOCK  ADVISORY  WRITE 4242 00:2b:17 0 EOF".
 */
export function lockHolder(path: string): number | undefined {
  const { dev, ino } = statSync(path, { bigint: true });
  const hex = (part: bigint): string => part.toString(16).padStart(2, '0');
  const major = (dev >> 8n) & 0xfffn;
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xfff00n);
  const file = `${hex(major)}:${hex(minor)}:${ino}`;
  const fields = readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .map((line) => line.split(/\s+/));
  const held = fields.find((line) => line[1] === 'FLOCK' && line[5] === file);
  return held === undefined ? undefined : Math.max(0, Number(held[4]));
}

/**
 * Process id of the listener on a Unix socket: 0 for a process of another PID namespace, and for a process that accepts no connection now.
 * If no process listens, or this cannot be determined, returns the error code, such as "ECONNREFUSED".
 */
export function unixListener(path: string): number | string {
  const name = new TextEncoder().encode(`${path}\0`);
  const address = new Uint8Array(2 + name.length);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  const fd = checkedErrno(libc.socket(AF_UNIX, SOCK_STREAM_CLOEXEC_NONBLOCK, 0), 'socket', path);
  try {
    const rc = libc.connect(fd, address, address.length);
    const failed = errno();
    // EAGAIN: the queue of the listener is full. EPROTOTYPE: a process has bound a socket of another type.
    if (rc < 0) return failed === EAGAIN || failed === EPROTOTYPE ? 0 : errnoName(failed);
    const credentials = new Uint32Array(3);
    checkedErrno(
      libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, Uint32Array.of(credentials.byteLength)),
      'getsockopt',
      'SO_PEERCRED',
    );
    return credentials[0] ?? 0;
  } finally {
    closeFd(fd);
  }
}

export const isBpffs = (path: string): boolean => statfsSync(path).type >>> 0 === BPF_FS_MAGIC;
export const isCgroup2 = (path: string): boolean => statfsSync(path).type === CGROUP2_MAGIC;

/** Mount point of cgroup v2, also in the hybrid layout with v1; undefined when cgroup v2 is not mounted. */
export function findCgroup2(): string | undefined {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return mounts.map((line) => line.split(' ')).find((fields) => fields[2] === 'cgroup2')?.[1];
}

/** Sends a state to the service manager (sd_notify(3)). Returns false if NOTIFY_SOCKET is not set or if sending fails. Never throws. */
export function notifyServiceManager(state: string, path = process.env['NOTIFY_SOCKET']): boolean {
  if (path === undefined || path === '') return false;
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) return false;
  // A leading @ stands for the zero byte of an abstract socket address.
  const name = new TextEncoder().encode(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`);
  const address = new Uint8Array(2 + name.length);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  const message = new TextEncoder().encode(state);
  const sent = uninterrupted(() => libc.sendto(fd, message, message.length, 0, address, address.length));
  closeFd(fd);
  return sent === message.length;
}

const RLIMIT_NOFILE = 7;

/** Number of descriptors that this process may open: the soft limit, which Node.js raises to the hard limit when it starts. */
export function descriptorLimit(): number {
  const limit = new BigUint64Array(2);
  checkedErrno(libc.getrlimit(RLIMIT_NOFILE, limit), 'getrlimit', 'RLIMIT_NOFILE');
  return Number(limit[0]);
}

/**
 * Ends the process at once. process.exit() waits for the threads of libuv, and one of them may be blocked forever in a write to a pipe that
 * is not read.
 */
export function exitNow(code: number): never {
  libc.exit(code);
  throw new Error('_exit() returned');
}

const CAP_NET_ADMIN = 12;
const CAP_SYS_ADMIN = 21;
const CAP_PERFMON = 38;
const CAP_BPF = 39;

/** Names of required capabilities that this process lacks. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON (capabilities(7)). */
export function missingCapabilities(status = readFileSync('/proc/self/status', 'utf8')): string[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const has = (bit: number): boolean => ((effective >> BigInt(bit)) & 1n) === 1n;
  const isAdmin = has(CAP_SYS_ADMIN);
  return [
    ...(isAdmin || has(CAP_BPF) ? [] : ['CAP_BPF']),
    ...(isAdmin || has(CAP_PERFMON) ? [] : ['CAP_PERFMON']),
    ...(has(CAP_NET_ADMIN) ? [] : ['CAP_NET_ADMIN']),
  ];
}
