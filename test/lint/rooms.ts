// SPDX-License-Identifier: Apache-2.0
// Lists the rooms, which are folders of daemon/, and what each room may import. oxlint.config.ts makes its import rules from this
// table, and check-directions.ts tests these rules. daemon/README.md explains the rooms. A new room starts with a row here.

export interface Room {
  /**
   * Folder under daemon/, at most two levels deep. A folder that has its own row may import neither the folders beside it nor the
   * files of its parent folder, unless the row allows them.
   */
  readonly folder: string;
  /** Other folders with a row that it may import; base/errors.ts may be imported from everywhere. */
  readonly may: readonly string[];
  /** True if the room may import the files that lie directly in its parent folder. */
  readonly hasParentFiles?: boolean;
  /** True if the room may import proto/, the public API. */
  readonly hasProto?: boolean;
  /** True if the room must not use a clock, I/O, a logger or a promise. */
  readonly isPure?: boolean;
  /** True if the room may import koffi. */
  readonly hasKoffi?: boolean;
  /**
   * True if the room may import values of base/clock.ts and base/log.ts; the other rooms import their types and take the values as
   * arguments.
   */
  readonly isComposition?: boolean;
}

const features = ['services'];

export const rooms: readonly Room[] = [
  { folder: 'base', may: [], isComposition: true },
  { folder: 'model', may: [], isPure: true },
  { folder: 'kernel', may: [], hasKoffi: true },
  { folder: 'config', may: ['model', 'base'] },
  { folder: 'table', may: ['base'] },
  { folder: 'source', may: ['model', 'table', 'base'] },
  { folder: 'source/convert', may: ['model', 'base'], hasParentFiles: true },
  { folder: 'source/files', may: ['model', 'table', 'base', 'source/convert'], hasParentFiles: true },
  { folder: 'source/kubernetes', may: ['model', 'table', 'base', 'source/convert'], hasParentFiles: true },
  // The only part of source/ that reads from the kernel.
  { folder: 'source/netlink', may: ['model', 'table', 'base', 'kernel'] },
  { folder: 'maps', may: ['model', 'kernel', 'base'] },
  { folder: 'bpf', may: ['model', 'maps', 'kernel', 'table', 'base'] },
  { folder: 'host', may: ['kernel', 'model', 'base'] },
  { folder: 'firewall', may: ['kernel', 'model', 'base'] },
  { folder: 'services', may: ['model', 'table', 'maps', 'kernel', 'base'] },
  { folder: 'services/desired', may: ['model'], isPure: true },
  { folder: 'services/controller', may: ['model', 'table', 'base', 'services/desired'] },
  { folder: 'services/apply', may: ['model', 'table', 'maps', 'base'] },
  { folder: 'services/health', may: ['model', 'table', 'base', 'services/desired', 'services/controller'] },
  { folder: 'explain', may: ['model', 'maps', 'kernel', 'base'] },
  { folder: 'status', may: ['model', 'maps', 'table', 'base'] },
  { folder: 'api', may: ['model', 'status', 'base'], hasProto: true },
  {
    folder: 'offline',
    may: ['config', 'model', 'base', 'kernel', 'table', 'source', 'maps', 'bpf', 'host', 'firewall', 'explain', 'status', ...features],
    isComposition: true,
  },
  { folder: 'cli', may: ['config', 'model', 'base', 'offline'], hasProto: true },
  {
    folder: 'agent',
    may: [
      'config',
      'model',
      'base',
      'kernel',
      'table',
      'source',
      'maps',
      'bpf',
      'host',
      'firewall',
      'explain',
      'status',
      'api',
      ...features,
    ],
    isComposition: true,
  },
];

/** The folders from which main.ts may import. No other program file lies directly in daemon/. */
export const mainMay: readonly string[] = ['agent', 'base', 'config', 'host', 'kernel'];

/** The only file that may start a child process. It starts the exec credential plugin that a kubeconfig names. */
export const childProcessFile = 'source/kubernetes/exec-credential.ts';

/** Globals that give access to a clock, I/O or a logger without an import. Pure rooms must not use them. */
export const impure =
  'Buffer Date clearInterval clearTimeout console fetch performance process queueMicrotask setImmediate setInterval setTimeout'.split(' ');
