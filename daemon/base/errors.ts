// SPDX-License-Identifier: Apache-2.0
// The errors that several folders of daemon/ use. Every folder may import this file; it imports nothing. A failed system call is
// a KernelError, an invalid API object an InvalidObjectError. An error that ends a command or the start of the daemon is an
// ExitError.

/**
 * A system call or libbpf call that failed. Only kernel/ creates it. Callers distinguish these errors with the predicates below, and never
 * by the message.
 */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  /** The operation: "map update", "link create". */
  readonly op: string;
  /** The object of the operation: the name of a map, program or device. */
  readonly object: string;
  /** Positive errno. */
  readonly errno: number;
  /** Symbol of the errno: "ENOENT". */
  readonly code: string;

  constructor(failure: { op: string; object: string; errno: number; code: string; detail?: string }, options?: ErrorOptions) {
    super(`${failure.op} ${failure.object}: ${failure.code}${failure.detail === undefined ? '' : `: ${failure.detail}`}`, options);
    this.op = failure.op;
    this.object = failure.object;
    this.errno = failure.errno;
    this.code = failure.code;
  }
}

const hasCode = (e: unknown, ...codes: string[]): boolean => e instanceof KernelError && codes.includes(e.code);

export const isNotFound = (e: unknown): boolean => hasCode(e, 'ENOENT', 'ENODEV', 'ENOLINK', 'ESRCH');
/** A map, a table or memory is full: E2BIG from a hash map, ENOSPC from a batch operation or from an allocator of the daemon. */
export const isNoSpace = (e: unknown): boolean => hasCode(e, 'E2BIG', 'ENOSPC', 'ENOMEM');
export const isNotSupported = (e: unknown): boolean => hasCode(e, 'EOPNOTSUPP', 'ENOTSUPP', 'EINVAL', 'ENOSYS');
/** Another program is attached exclusively to the hook, or the process lacks the capability. */
export const isDenied = (e: unknown): boolean => hasCode(e, 'EPERM', 'EACCES', 'EBUSY');

/** The message of a thrown value. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** An expected failure without a class of its own. Users see its message, so the message must be ours and not that of a library. */
export class ReasonError extends Error {
  override readonly name = 'ReasonError';
}

/** An API object, or a part of it, is invalid and left out. Other objects are not affected. */
export class InvalidObjectError extends Error {
  override readonly name = 'InvalidObjectError';
  readonly kind: string;
  /** "namespace/name", or the name of a cluster-scoped object; "" when the object has no name. */
  readonly object: string;
  /** Path of the field: "spec.ports[0].port". "" for the whole object. */
  readonly field: string;

  constructor(at: { kind: string; object: string; field: string }, reason: string, options?: ErrorOptions) {
    super([at.kind, at.object, at.field].filter((part) => part !== '').join(' ') + `: ${reason}`, options);
    this.kind = at.kind;
    this.object = at.object;
    this.field = at.field;
  }
}

/** Exit codes of `sluiced` and `sluice`; daemon/README.md lists them. */
export const ExitCode = {
  ok: 0,
  failure: 1,
  usage: 2,
  config: 3,
  locked: 4,
  kernel: 5,
  unreachable: 6,
  capability: 7,
  bpffs: 8,
  cgroup: 9,
  occupied: 10,
  layout: 11,
} as const;

/**
 * Ends a command or the start of the daemon with an exit code, before anything has changed. The message tells the user what is wrong and
 * what to do. When an API call throws it, only that call fails, with this message; the daemon continues.
 */
export class ExitError extends Error {
  override readonly name = 'ExitError';
  readonly exitCode: number;

  constructor(exitCode: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}
