// SPDX-License-Identifier: Apache-2.0
// The errors that cross rooms. Any room may import this file; it imports nothing.
// Kernel failures are KernelError (made by kernel/); bad API objects are InvalidObjectError;
// a start that must not go on is an ExitError, which carries the process exit code and the next step.

/** A system call or libbpf call that failed. Made by kernel/ only; ask with the predicates below, never by message. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  /** What was tried: "map update", "link create". */
  readonly op: string;
  /** What it was tried on: a map, program or device name. */
  readonly object: string;
  /** Positive errno. */
  readonly errno: number;
  /** errno's symbol: "ENOENT". */
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
/** The map (or table, or memory) is full: E2BIG from a hash, ENOSPC from a batch or from our own allocators. */
export const isNoSpace = (e: unknown): boolean => hasCode(e, 'E2BIG', 'ENOSPC', 'ENOMEM');
export const isNotSupported = (e: unknown): boolean => hasCode(e, 'EOPNOTSUPP', 'ENOTSUPP', 'EINVAL', 'ENOSYS');
/** Another program holds the hook, or we lack the capability. */
export const isDenied = (e: unknown): boolean => hasCode(e, 'EPERM', 'EACCES', 'EBUSY');

/** What anything thrown says. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** An API object, or a part of one, that cannot be used. The rest of the objects go on. */
export class InvalidObjectError extends Error {
  override readonly name = 'InvalidObjectError';
  readonly kind: string;
  /** "namespace/name", or the bare name of a cluster-scoped object; "" when the object has none. */
  readonly object: string;
  /** Path of the field: "spec.ports[0].port". "" when the whole object is meant. */
  readonly field: string;

  constructor(at: { kind: string; object: string; field: string }, reason: string, options?: ErrorOptions) {
    super([at.kind, at.object, at.field].filter((part) => part !== '').join(' ') + `: ${reason}`, options);
    this.kind = at.kind;
    this.object = at.object;
    this.field = at.field;
  }
}

/** Exit codes of `sluiced` and `sluice`; README lists them. */
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

/** A start (or command) that is refused before anything was changed: one sentence that says what is wrong and what to do. */
export class ExitError extends Error {
  override readonly name = 'ExitError';
  readonly exitCode: number;

  constructor(exitCode: number, sentence: string, options?: ErrorOptions) {
    super(sentence, options);
    this.exitCode = exitCode;
  }
}
