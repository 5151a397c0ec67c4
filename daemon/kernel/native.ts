// SPDX-License-Identifier: Apache-2.0
// The C functions that kernel/ calls, each declared once: libc and the system's libbpf, through koffi. In daemon/, only kernel/
// imports this file. libbpf 1.x returns -errno. libc returns -1 and sets errno: read it on the next line, because any other
// work may overwrite it.
import { constants } from 'node:os';
import koffi, { type LibraryHandle } from 'koffi';
import { KernelError, ExitError, ExitCode } from '../base/errors.ts';

/** A C pointer: an address, or null. */
export type Pointer = bigint | null;
/** Memory that C reads or writes during the call. */
type Bytes = NodeJS.ArrayBufferView;
/** Memory, or null for an argument that is not used. */
type Optional = Bytes | null;

function load(names: readonly string[], debianPackage: string): LibraryHandle {
  for (const name of names) {
    try {
      return koffi.load(name);
    } catch {
      continue;
    }
  }
  throw new ExitError(ExitCode.kernel, `${names.join(' or ')} is not installed: apt-get install ${debianPackage}`);
}

/** Declares functions of a library. The type arguments are the parameters and the result of the C declaration. */
const declarations =
  (library: LibraryHandle) =>
  <Parameters extends readonly unknown[], Result = number>(declaration: string): ((...parameters: Parameters) => Result) =>
    library.func(declaration);

const c = declarations(load(['libc.so.6'], 'libc6'));
const bpf = declarations(load(['libbpf.so.1'], 'libbpf1'));

export const libc = {
  close: c<[fd: number]>('int close(int fd)'),
  dup: c<[fd: number]>('int dup(int fd)'),
  flock: c<[fd: number, operation: number]>('int flock(int fd, int operation)'),
  mmap: c<[address: null, length: number, protection: number, flags: number, fd: number, offset: number], Pointer>(
    'void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)',
  ),
  munmap: c<[address: Pointer, length: number]>('int munmap(void *addr, size_t length)'),
  socket: c<[domain: number, type: number, protocol: number]>('int socket(int domain, int type, int protocol)'),
  connect: c<[fd: number, address: Bytes, length: number]>('int connect(int fd, const void *addr, uint32_t length)'),
  bind: c<[fd: number, address: Bytes, length: number]>('int bind(int fd, const void *addr, uint32_t length)'),
  setsockopt: c<[fd: number, level: number, name: number, value: Bytes, length: number]>(
    'int setsockopt(int fd, int level, int name, const void *value, uint32_t length)',
  ),
  getsockopt: c<[fd: number, level: number, name: number, value: Bytes, length: Uint32Array]>(
    'int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *length)',
  ),
  send: c<[fd: number, bytes: Bytes, length: number, flags: number]>('long send(int fd, const void *bytes, size_t length, int flags)'),
  sendto: c<[fd: number, bytes: Bytes, length: number, flags: number, address: Bytes, addressLength: number]>(
    'long sendto(int fd, const void *bytes, size_t length, int flags, const void *addr, uint32_t addrlen)',
  ),
  recv: c<[fd: number, bytes: Bytes, length: number, flags: number]>('long recv(int fd, void *bytes, size_t length, int flags)'),
  getrlimit: c<[resource: number, limit: Bytes]>('int getrlimit(int resource, void *limit)'),
  exit: c<[code: number], void>('void _exit(int code)'),
  sigmask: c<[how: number, set: Bytes, before: Optional]>('int pthread_sigmask(int how, const void *set, void *before)'),
};

export const libbpf = {
  version: bpf<[], string>('const char *libbpf_version_string()'),
  setPrint: bpf<[callback: null], Pointer>('void *libbpf_set_print(void *fn)'),
  getError: bpf<[pointer: Pointer], number | bigint>('long libbpf_get_error(const void *ptr)'),
  objectOpen: bpf<[path: string, options: null], Pointer>('void *bpf_object__open_file(const char *path, const void *opts)'),
  objectLoad: bpf<[object: Pointer]>('int bpf_object__load(void *obj)'),
  objectClose: bpf<[object: Pointer], void>('void bpf_object__close(void *obj)'),
  nextMap: bpf<[object: Pointer, map: Pointer], Pointer>('void *bpf_object__next_map(const void *obj, const void *map)'),
  mapName: bpf<[map: Pointer], string>('const char *bpf_map__name(const void *map)'),
  mapFd: bpf<[map: Pointer]>('int bpf_map__fd(const void *map)'),
  mapReuseFd: bpf<[map: Pointer, fd: number]>('int bpf_map__reuse_fd(void *map, int fd)'),
  mapSetMaxEntries: bpf<[map: Pointer, maxEntries: number]>('int bpf_map__set_max_entries(void *map, uint32_t max_entries)'),
  mapMaxEntries: bpf<[map: Pointer]>('uint32_t bpf_map__max_entries(const void *map)'),
  mapType: bpf<[map: Pointer]>('uint32_t bpf_map__type(const void *map)'),
  mapKeySize: bpf<[map: Pointer]>('uint32_t bpf_map__key_size(const void *map)'),
  mapValueSize: bpf<[map: Pointer]>('uint32_t bpf_map__value_size(const void *map)'),
  mapFlags: bpf<[map: Pointer]>('uint32_t bpf_map__map_flags(const void *map)'),
  nextProgram: bpf<[object: Pointer, program: Pointer], Pointer>('void *bpf_object__next_program(const void *obj, void *prog)'),
  programName: bpf<[program: Pointer], string>('const char *bpf_program__name(const void *prog)'),
  programFd: bpf<[program: Pointer]>('int bpf_program__fd(const void *prog)'),
  programSetLog: bpf<[program: Pointer, log: bigint, size: number]>('int bpf_program__set_log_buf(void *prog, void *log, size_t size)'),
  objPin: bpf<[fd: number, path: string]>('int bpf_obj_pin(int fd, const char *path)'),
  objGet: bpf<[path: string]>('int bpf_obj_get(const char *path)'),
  objInfo: bpf<[fd: number, info: Bytes, length: Uint32Array]>('int bpf_obj_get_info_by_fd(int fd, void *info, uint32_t *length)'),
  mapUpdate: bpf<[fd: number, key: Bytes, value: Bytes, flags: number]>(
    'int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)',
  ),
  mapLookup: bpf<[fd: number, key: Bytes, value: Bytes]>('int bpf_map_lookup_elem(int fd, const void *key, void *value)'),
  mapDelete: bpf<[fd: number, key: Bytes]>('int bpf_map_delete_elem(int fd, const void *key)'),
  mapLookupBatch: bpf<[fd: number, inBatch: Optional, outBatch: Bytes, keys: Bytes, values: Bytes, count: Uint32Array, options: null]>(
    'int bpf_map_lookup_batch(int fd, void *in_batch, void *out_batch, void *keys, void *values, uint32_t *count, const void *opts)',
  ),
  linkCreate: bpf<[programFd: number, target: number, attachType: number, options: Optional]>(
    'int bpf_link_create(int prog_fd, int target_fd, int attach_type, const void *opts)',
  ),
  linkUpdate: bpf<[linkFd: number, programFd: number, options: null]>('int bpf_link_update(int link_fd, int prog_fd, const void *opts)'),
  linkDetach: bpf<[linkFd: number]>('int bpf_link_detach(int link_fd)'),
  programFdById: bpf<[id: number]>('int bpf_prog_get_fd_by_id(uint32_t id)'),
  progQuery: bpf<[target: number, type: number, queryFlags: number, attachFlags: Optional, ids: Uint32Array, count: Uint32Array]>(
    'int bpf_prog_query(int target, int type, uint32_t query_flags, uint32_t *attach_flags, uint32_t *ids, uint32_t *count)',
  ),
  testRun: bpf<[programFd: number, options: Bytes]>('int bpf_prog_test_run_opts(int prog_fd, void *opts)'),
  tcHookCreate: bpf<[hook: Bytes]>('int bpf_tc_hook_create(void *hook)'),
  tcAttach: bpf<[hook: Bytes, options: Bytes]>('int bpf_tc_attach(const void *hook, void *opts)'),
  tcQuery: bpf<[hook: Bytes, options: Bytes]>('int bpf_tc_query(const void *hook, void *opts)'),
  tcDetach: bpf<[hook: Bytes, options: Bytes]>('int bpf_tc_detach(const void *hook, const void *opts)'),
};

/**
 * Calls a function of `libbpf` in a thread of libuv's pool. Its descriptors must stay open, and its memory unchanged, until the promise
 * settles.
 */
export function inThread<Parameters extends readonly unknown[]>(
  call: (...parameters: Parameters) => number,
  ...parameters: Parameters
): Promise<number> {
  const { async: start } = call as unknown as { readonly async: (...parameters: unknown[]) => void };
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  start(...parameters, (error: Error | null, rc: number) => (error === null ? resolve(rc) : reject(error)));
  return promise;
}

// By default libbpf prints every failure to stderr. This is disabled, because each failure is thrown as a KernelError.
libbpf.setPrint(null);

/** Error numbers of libbpf itself, from 4000 on (libbpf.h, enum libbpf_errno). */
const libbpfErrors = 'LIBELF FORMAT KVERSION ENDIAN INTERNAL RELOC LOAD VERIFY PROG2BIG KVER PROGTYPE WRNGPID INVSEQ NLPARSE'.split(' ');

const errorNames = new Map<number, string>([
  ...libbpfErrors.map((name, index): [number, string] => [4000 + index, `LIBBPF_ERRNO__${name}`]),
  ...Object.entries(constants.errno).map(([name, number]): [number, string] => [number, name]),
  // Node.js lists this number as both EAGAIN and EWOULDBLOCK. The name EAGAIN is used.
  [constants.errno.EAGAIN, 'EAGAIN'],
  [524, 'ENOTSUPP'],
]);

/** Symbol of an error number: "ENOENT" for 2. */
export const errnoName = (errno: number): string => errorNames.get(errno) ?? `errno ${errno}`;

const { EINTR } = constants.errno;

/** Makes a KernelError from a positive errno. */
export function kernelError(op: string, object: string, errno: number): KernelError {
  return new KernelError({ op, object, errno, code: errnoName(errno) });
}

/** Returns the result of a libbpf call. Throws KernelError when it is negative, which means -errno. */
export function checked(rc: number, op: string, object: string): number {
  if (rc < 0) throw kernelError(op, object, -rc);
  return rc;
}

/**
 * Returns the result of a libc call. Throws KernelError with errno when it is negative. Nothing may run between the C call and
 * this call.
 */
export function checkedErrno(rc: number, op: string, object: string): number {
  if (rc < 0) throw kernelError(op, object, koffi.errno());
  return rc;
}

export const errno = (): number => koffi.errno();

/** Maximum number of interrupted calls in a row. More interruptions are a signal storm, which is reported as an error. */
const INTERRUPTIONS = 100;

/**
 * Repeats a call while a signal interrupts it, a limited number of times. `failureOf` returns the errno of a result, or 0. Returns
 * the last result.
 */
function repeated(call: () => number, failureOf: (rc: number) => number): number {
  let rc = call();
  for (let count = 1; count < INTERRUPTIONS && failureOf(rc) === EINTR; count += 1) rc = call();
  return rc;
}

/** Repeats a libc call while it fails with EINTR. Returns the last result; errno belongs to it. */
export const uninterrupted = (call: () => number): number => repeated(call, (rc) => (rc < 0 ? koffi.errno() : 0));

/** Repeats a libbpf call while it returns -EINTR. Returns the last result. */
export const uninterruptedBpf = (call: () => number): number => repeated(call, (rc) => -rc);

const SIG_BLOCK = 0;
const SIG_SETMASK = 2;
const SIGSET_BYTES = 128; // sizeof(sigset_t)

/**
 * Runs `work` while this thread receives no signal. A signal that arrives meanwhile is handled by another thread, or afterwards. The
 * verifier gives up with EAGAIN when a signal is pending, so programs are loaded this way.
 */
export function withoutSignals<T>(work: () => T): T {
  const before = new Uint8Array(SIGSET_BYTES);
  const failed = libc.sigmask(SIG_BLOCK, new Uint8Array(SIGSET_BYTES).fill(0xff), before);
  if (failed !== 0) throw kernelError('block', 'signals', failed);
  try {
    return work();
  } finally {
    libc.sigmask(SIG_SETMASK, before, null);
  }
}

export const addressOf = (bytes: Uint8Array): bigint => koffi.address(bytes);
/** Memory that C owns, as an ArrayBuffer. It must not be used after the memory is unmapped. */
export const memory = (pointer: Pointer, length: number): ArrayBuffer => koffi.view(pointer, length);
export type PollHandle = ReturnType<typeof koffi.node.poll>;
/** koffi passes the status of libuv first, although its types name only the events. */
const poll = koffi.node.poll as unknown as (fd: number, options: { readable: true }, callback: (status: number) => void) => PollHandle;
/**
 * Calls back from the event loop while `fd` is readable. A negative `status` means that `fd` has an error. libuv then reports nothing
 * more, so the handle must be closed.
 */
export const pollReadable = (fd: number, callback: (status: number) => void): PollHandle => poll(fd, { readable: true }, callback);

/** Closes a descriptor. Passing -1, or a descriptor that is already closed, is a bug of the caller. */
export function closeFd(fd: number): void {
  libc.close(fd);
}
