// SPDX-License-Identifier: Apache-2.0
// The C functions we call, declared once: libc and the system's libbpf through koffi. Only this room imports this file.
// libbpf 1.x returns -errno; libc returns -1 and leaves errno, which must be read on the very next line (any other
// work in between may overwrite it).
import { constants } from 'node:os';
import koffi from 'koffi';
import { KernelError, ExitError, ExitCode } from '../base/errors.ts';

/** A C pointer: an address, or null. */
export type Pointer = bigint | null;

function load(names: readonly string[], debianPackage: string): ReturnType<typeof koffi.load> {
  for (const name of names) {
    try {
      return koffi.load(name);
    } catch {
      continue;
    }
  }
  throw new ExitError(ExitCode.kernel, `${names.join(' or ')} is not installed: apt-get install ${debianPackage}`);
}

const c = load(['libc.so.6'], 'libc6');
const bpf = load(['libbpf.so.1'], 'libbpf1');

export const libc = {
  close: c.func('int close(int fd)'),
  dup: c.func('int dup(int fd)'),
  flock: c.func('int flock(int fd, int operation)'),
  mmap: c.func('void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)'),
  munmap: c.func('int munmap(void *addr, size_t length)'),
  socket: c.func('int socket(int domain, int type, int protocol)'),
  bind: c.func('int bind(int fd, const void *addr, uint32_t length)'),
  setsockopt: c.func('int setsockopt(int fd, int level, int name, const void *value, uint32_t length)'),
  getsockopt: c.func('int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *length)'),
  send: c.func('long send(int fd, const void *bytes, size_t length, int flags)'),
  sendto: c.func('long sendto(int fd, const void *bytes, size_t length, int flags, const void *addr, uint32_t addrlen)'),
  recv: c.func('long recv(int fd, void *bytes, size_t length, int flags)'),
  setns: c.func('int setns(int fd, int nstype)'),
  unshare: c.func('int unshare(int flags)'),
};

export const libbpf = {
  version: bpf.func('const char *libbpf_version_string()'),
  setPrint: bpf.func('void *libbpf_set_print(void *fn)'),
  getError: bpf.func('long libbpf_get_error(const void *ptr)'),
  objectOpen: bpf.func('void *bpf_object__open_file(const char *path, const void *opts)'),
  objectLoad: bpf.func('int bpf_object__load(void *obj)'),
  objectClose: bpf.func('void bpf_object__close(void *obj)'),
  nextMap: bpf.func('void *bpf_object__next_map(const void *obj, const void *map)'),
  mapName: bpf.func('const char *bpf_map__name(const void *map)'),
  mapFd: bpf.func('int bpf_map__fd(const void *map)'),
  mapReuseFd: bpf.func('int bpf_map__reuse_fd(void *map, int fd)'),
  mapSetMaxEntries: bpf.func('int bpf_map__set_max_entries(void *map, uint32_t max_entries)'),
  mapMaxEntries: bpf.func('uint32_t bpf_map__max_entries(const void *map)'),
  mapType: bpf.func('uint32_t bpf_map__type(const void *map)'),
  mapKeySize: bpf.func('uint32_t bpf_map__key_size(const void *map)'),
  mapValueSize: bpf.func('uint32_t bpf_map__value_size(const void *map)'),
  mapFlags: bpf.func('uint32_t bpf_map__map_flags(const void *map)'),
  nextProgram: bpf.func('void *bpf_object__next_program(const void *obj, void *prog)'),
  programName: bpf.func('const char *bpf_program__name(const void *prog)'),
  programFd: bpf.func('int bpf_program__fd(const void *prog)'),
  programSetLog: bpf.func('int bpf_program__set_log_buf(void *prog, void *log, size_t size)'),
  objPin: bpf.func('int bpf_obj_pin(int fd, const char *path)'),
  mapById: bpf.func('int bpf_map_get_fd_by_id(uint32_t id)'),
  objGet: bpf.func('int bpf_obj_get(const char *path)'),
  objInfo: bpf.func('int bpf_obj_get_info_by_fd(int fd, void *info, uint32_t *length)'),
  mapUpdate: bpf.func('int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)'),
  mapLookup: bpf.func('int bpf_map_lookup_elem(int fd, const void *key, void *value)'),
  mapDelete: bpf.func('int bpf_map_delete_elem(int fd, const void *key)'),
  mapNextKey: bpf.func('int bpf_map_get_next_key(int fd, const void *key, void *next)'),
  mapLookupBatch: bpf.func(
    'int bpf_map_lookup_batch(int fd, void *in_batch, void *out_batch, void *keys, void *values, uint32_t *count, const void *opts)',
  ),
  mapUpdateBatch: bpf.func('int bpf_map_update_batch(int fd, const void *keys, const void *values, uint32_t *count, const void *opts)'),
  mapDeleteBatch: bpf.func('int bpf_map_delete_batch(int fd, const void *keys, uint32_t *count, const void *opts)'),
  linkCreate: bpf.func('int bpf_link_create(int prog_fd, int target_fd, int attach_type, const void *opts)'),
  linkUpdate: bpf.func('int bpf_link_update(int link_fd, int prog_fd, const void *opts)'),
  progQuery: bpf.func(
    'int bpf_prog_query(int target, int type, uint32_t query_flags, uint32_t *attach_flags, uint32_t *ids, uint32_t *count)',
  ),
  testRun: bpf.func('int bpf_prog_test_run_opts(int prog_fd, void *opts)'),
  tcHookCreate: bpf.func('int bpf_tc_hook_create(void *hook)'),
  tcAttach: bpf.func('int bpf_tc_attach(const void *hook, void *opts)'),
  tcQuery: bpf.func('int bpf_tc_query(const void *hook, void *opts)'),
  tcDetach: bpf.func('int bpf_tc_detach(const void *hook, const void *opts)'),
};

// libbpf would print every failure to stderr; we turn each into one KernelError instead.
libbpf.setPrint(null);

/** libbpf's own numbers, from 4000 on (libbpf.h, enum libbpf_errno). */
const libbpfErrors = 'LIBELF FORMAT KVERSION ENDIAN INTERNAL RELOC LOAD VERIFY PROG2BIG KVER PROGTYPE WRNGPID INVSEQ NLPARSE'.split(' ');

const names = new Map<number, string>([
  ...libbpfErrors.map((name, index): [number, string] => [4000 + index, `LIBBPF_ERRNO__${name}`]),
  ...Object.entries(constants.errno).map(([name, number]): [number, string] => [number, name]),
  // Not by its other name, EWOULDBLOCK.
  [constants.errno.EAGAIN, 'EAGAIN'],
  [524, 'ENOTSUPP'],
]);

/** "ENOENT" of 2. */
export const errnoName = (errno: number): string => names.get(errno) ?? `errno ${errno}`;

/** KernelError of a positive errno. */
export function kernelError(op: string, object: string, errno: number): KernelError {
  return new KernelError({ op, object, errno, code: errnoName(errno) });
}

/** Result of a libbpf call, or throws: negative means -errno. */
export function checked(rc: number, op: string, object: string): number {
  if (rc < 0) throw kernelError(op, object, -rc);
  return rc;
}

/** Result of a libc call, or throws errno. Call with nothing between it and the C call. */
export function checkedErrno(rc: number, op: string, object: string): number {
  if (rc < 0) throw kernelError(op, object, koffi.errno());
  return rc;
}

export const errno = (): number => koffi.errno();
export const addressOf = (bytes: Uint8Array): bigint => koffi.address(bytes) as bigint;
/** Memory that C owns, as an ArrayBuffer; valid as long as the mapping is. */
export const memory = (pointer: Pointer, length: number): ArrayBuffer => koffi.view(pointer, length);
export type PollHandle = ReturnType<typeof koffi.node.poll>;
/** Calls back from the event loop while `fd` is readable. */
export const pollReadable = (fd: number, callback: () => void): PollHandle => koffi.node.poll(fd, { readable: true }, callback);

export const libbpfVersion = (): string => String(libbpf.version()).replace(/^v/, '');

/** Closes a descriptor; -1 and repeated closes are the caller's bug. */
export function closeFd(fd: number): void {
  libc.close(fd);
}
