// SPDX-License-Identifier: Apache-2.0
// Asks the kernel which programs are on the hooks that this daemon uses. Finds hooks that lack our program, programs of another
// sluiced, which has a different pin path, and programs of other owners that may hide packets from ours. Reads only; guard.ts does the
// repairs. The result is reused for a second, because a node has hundreds of hooks. Called by the status.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isNotFound, isNotSupported, KernelError } from '../base/errors.ts';
import { FilterReader } from '../kernel/clsact.ts';
import { isBpffs, isCgroup2 } from '../kernel/host.ts';
import { cgroupPrograms, hasTcx, linkInfo, programId, programNameById, tcxPrograms } from '../kernel/link.ts';
import { closeFd, openPin } from '../kernel/map.ts';
import type { DesiredDevice } from '../model/device.ts';
import type { Datapath } from './datapath.ts';
import { allHooks, hooksOf } from './devices.ts';
import { hookList, type Neighbour, orderFindings, type OrderFindings } from './hook-order.ts';
import type { PinDirectory } from './pins.ts';
import { type Sockets, socketHooks } from './sockets.ts';

export interface HookInspectionOptions {
  readonly datapath: Pick<Datapath, 'program'>;
  readonly pins: PinDirectory;
  /** The devices whose programs are attached. */
  readonly devices: () => Iterable<DesiredDevice>;
  /** Whether the settings ask for socket programs. */
  readonly hasSocketLb: boolean;
  /** The cgroup whose socket programs are attached; undefined when there is none. */
  readonly cgroup: () => string | undefined;
  /** The socket hooks that have a program in the present phase. Default: all. */
  readonly socketHooks?: Sockets['hooks'];
  /** Clock time in milliseconds. */
  readonly now: () => number;
  /** Whether the kernel has TCX. Default: the kernel is queried. */
  readonly hasTcx?: boolean;
}

/** What an inspection found on the hooks: one message for each finding, with the next step. */
export interface HookFindings extends OrderFindings {
  /** Programs of ours that are not on their hook. */
  readonly missing: readonly string[];
  /** Other daemons that have programs on the same hooks. */
  readonly others: readonly string[];
}

interface Hook {
  /** Our program for this hook. */
  readonly program: string;
  /** Device name, or cgroup directory. */
  readonly target: string;
  /** False for a parent of the cgroup, on which this daemon has no program. */
  readonly isOurs: boolean;
  /** The programs and filters that are on the hook, in the order in which they run. */
  readonly chain: readonly Member[];
  /** On a tc hook: its direction. */
  readonly direction?: 'ingress' | 'egress';
}

interface Member {
  /** Id of the program; 0 for a filter that is no BPF program. */
  readonly id: number;
  /** Name of a filter, for messages; undefined for a program of a link. */
  readonly filter?: string;
}

/** A program on a hook that this daemon uses, or on the same hook of a parent of its cgroup. */
interface ForeignProgram {
  readonly id: number;
  /** "tc_pod_in on lxc1". */
  readonly hook: string;
}

/** How long the result of an inspection is reused. */
const KEPT_MS = 1000;
/** How long the list of the pins of other daemons is reused. It is read only if programs of an unknown owner are on the hooks. */
const PINS_KEPT_MS = 10_000;
/** Limits of the search for pin paths on the bpffs. Other programs may keep thousands of pins there. */
const MAX_PIN_DEPTH = 4;
const MAX_PIN_DIRECTORIES = 1000;
const MAX_KNOWN_NAMES = 4096;

const ourNames: ReadonlySet<string> = new Set([...[...allHooks, ...socketHooks].map(({ program }) => program)]);

export class HookInspection {
  readonly #options: HookInspectionOptions;
  readonly #names = new Map<number, string | undefined>();
  #findings: { readonly at: number; readonly value: HookFindings } | undefined;
  #pinPaths: { readonly at: number; readonly value: ReadonlyMap<number, string> } | undefined;

  constructor(options: HookInspectionOptions) {
    this.#options = options;
  }

  findings(): HookFindings {
    const now = this.#options.now();
    if (this.#findings === undefined || now - this.#findings.at >= KEPT_MS) this.#findings = { at: now, value: this.#inspectOrReport() };
    return this.#findings.value;
  }

  /** A failure of the kernel must not make the whole status fail. */
  #inspectOrReport(): HookFindings {
    const filters = new FilterReader();
    try {
      return this.#inspect(filters);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      const missing = [`the programs on the hooks are unknown, because the kernel does not list them: ${error.message}`];
      return { missing, others: [], displaced: [], ahead: [] };
    } finally {
      filters.close();
    }
  }

  #inspect(filters: FilterReader): HookFindings {
    const { hasSocketLb, cgroup } = this.#options;
    const missing = hasSocketLb && cgroup() === undefined ? ['the socket programs are not attached to a cgroup: the log says why'] : [];
    const foreign: ForeignProgram[] = [];
    const neighbours: (Neighbour & { readonly id: number })[] = [];
    const ownIds = new Map<string, number>();
    for (const { program, target, isOurs, chain, direction } of this.#hooks(filters)) {
      const own = ownIds.get(program) ?? programId(this.#options.datapath.program(program));
      ownIds.set(program, own);
      const hook = `${program} on ${target}`;
      const at = chain.findIndex(({ id }) => id === own);
      if (isOurs && at === -1)
        missing.push(`${hook} is not attached: sluiced attaches it again within --sync-period, and logs the reason when that fails`);
      foreign.push(...chain.filter(({ id }) => id !== own && id !== 0).map(({ id }) => ({ id, hook })));
      if (direction === undefined || at === -1) continue;
      const isFilter = chain[at]?.filter !== undefined;
      for (const [index, { id, filter }] of chain.entries()) {
        const name = filter === undefined ? `the program ${this.#nameOf(id) ?? id}` : `the filter ${filter}`;
        if (index !== at) neighbours.push({ id, name, hook, direction, isBefore: index < at, isFilter });
      }
    }
    const sluices = this.#programsOfOthers(foreign);
    const ids = new Set(sluices.map(({ id }) => id));
    return {
      missing,
      others: [...Map.groupBy(sluices, ({ pinPath }) => pinPath)].map(([pinPath, group]) => otherDaemon(pinPath, group)),
      ...orderFindings(neighbours.filter(({ id }) => !ids.has(id))),
    };
  }

  /**
   * The hooks that this daemon uses, and the same hooks of the parents of its cgroup, whose programs run too. Devices that no longer exist
   * are left out.
   */
  *#hooks(filters: FilterReader): IterableIterator<Hook> {
    const isTcx = this.#options.hasTcx ?? hasTcx();
    for (const device of this.#options.devices()) {
      const { ifindex, name } = device;
      for (const { program, isIngress } of hooksOf(device)) {
        const ids = isTcx ? idsOf(() => tcxPrograms(ifindex, isIngress)) : [];
        if (ids === undefined) continue;
        // At ingress, where our program is first, the filters behind the TCX programs are of no interest.
        const behind = isTcx && isIngress ? [] : filters.read(ifindex, isIngress);
        const chain = [...ids.map((id) => ({ id })), ...behind.map((filter) => ({ id: filter.programId ?? 0, filter: filter.name }))];
        yield { program, target: name, isOurs: true, chain, direction: isIngress ? 'ingress' : 'egress' };
      }
    }
    const cgroup = this.#options.cgroup();
    if (cgroup === undefined) return;
    for (const { program, type } of this.#options.socketHooks?.() ?? socketHooks) {
      const chainOf = (directory: string): Member[] => (idsOf(() => cgroupPrograms(directory, type).ids) ?? []).map((id) => ({ id }));
      yield { program, target: cgroup, isOurs: true, chain: chainOf(cgroup) };
      for (let above = dirname(cgroup); isInCgroup2(above); above = dirname(above))
        yield { program, target: above, isOurs: false, chain: chainOf(above) };
    }
  }

  /** The programs that belong to other daemons, each with the pin path; "" if that is unknown. */
  #programsOfOthers(programs: readonly ForeignProgram[]): (ForeignProgram & { readonly pinPath: string })[] {
    const candidates = programs.filter(({ id }) => {
      const name = this.#nameOf(id);
      return name === undefined || ourNames.has(name);
    });
    if (candidates.length === 0) return [];
    const pinPaths = this.#pinPathsOfPrograms();
    // Without CAP_SYS_ADMIN the name of a program is unknown. Then only its pin shows that it belongs to a sluiced.
    return candidates
      .filter(({ id }) => pinPaths.has(id) || this.#nameOf(id) !== undefined)
      .map((program) => ({ ...program, pinPath: pinPaths.get(program.id) ?? '' }));
  }

  #nameOf(id: number): string | undefined {
    if (!this.#names.has(id)) {
      if (this.#names.size >= MAX_KNOWN_NAMES) this.#names.clear();
      this.#names.set(id, programNameById(id));
    }
    return this.#names.get(id);
  }

  #pinPathsOfPrograms(): ReadonlyMap<number, string> {
    const now = this.#options.now();
    if (this.#pinPaths === undefined || now - this.#pinPaths.at >= PINS_KEPT_MS)
      this.#pinPaths = { at: now, value: pinnedPrograms(this.#options.pins.path) };
    return this.#pinPaths.value;
  }
}

function otherDaemon(pinPath: string, programs: readonly ForeignProgram[]): string {
  const where = hookList(programs);
  const [owner, remedy] =
    pinPath === ''
      ? ['an unknown pin path', '`sluice uninstall --pin-path DIR` with its pin path']
      : [`the pin path ${pinPath}`, `\`sluice uninstall --pin-path ${pinPath}\``];
  return `programs of another sluiced, with ${owner}, are on the hooks of this one (${where}), so packets and connections are translated twice: stop the other sluiced and run ${remedy}`;
}

/** The ids that `query` returns; undefined when the device or the cgroup does not exist any more. */
function idsOf(query: () => readonly number[]): readonly number[] | undefined {
  try {
    return query();
  } catch (error) {
    if (isNotFound(error) || isNotSupported(error)) return undefined;
    throw error;
  }
}

function isInCgroup2(directory: string): boolean {
  try {
    return isCgroup2(directory);
  } catch {
    return false;
  }
}

/** Pin path by program id, for the programs whose links or filters are pinned below other pin paths of the same bpffs. */
function pinnedPrograms(ownPath: string): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  for (const path of otherPinPaths(ownPath)) {
    for (const kind of ['links', 'clsact'] as const) {
      for (const name of namesIn(join(path, kind)).pins) {
        const id = programOfPin(kind, join(path, kind, name));
        if (id !== undefined) found.set(id, path);
      }
    }
  }
  return found;
}

/** The directories of the same bpffs that hold the pins of another sluiced. */
function otherPinPaths(ownPath: string): string[] {
  let root = ownPath;
  while (dirname(root) !== root && isOnBpffs(dirname(root))) root = dirname(root);
  const found: string[] = [];
  let directories = [root];
  let visited = 0;
  for (let depth = 0; depth <= MAX_PIN_DEPTH && directories.length > 0; depth += 1) {
    const below: string[] = [];
    for (const path of directories) {
      if (path === ownPath || visited >= MAX_PIN_DIRECTORIES) continue;
      visited += 1;
      const names = namesIn(path).directories;
      if (['links', 'maps', 'clsact'].every((name) => names.includes(name))) found.push(path);
      else below.push(...names.map((name) => join(path, name)));
    }
    directories = below;
  }
  return found;
}

function isOnBpffs(path: string): boolean {
  try {
    return isBpffs(path);
  } catch {
    return false;
  }
}

/** The names in a directory of a bpffs; none when it cannot be read. */
function namesIn(path: string): { readonly directories: readonly string[]; readonly pins: readonly string[] } {
  try {
    const entries = readdirSync(path, { withFileTypes: true });
    const { directories = [], pins = [] } = Object.groupBy(entries, (entry) => (entry.isDirectory() ? 'directories' : 'pins'));
    return { directories: directories.map(({ name }) => name), pins: pins.map(({ name }) => name) };
  } catch {
    return { directories: [], pins: [] };
  }
}

/** Id of the program of a pinned link, or of a pinned program; undefined when the pin cannot be opened. */
function programOfPin(kind: 'links' | 'clsact', path: string): number | undefined {
  let fd: number | undefined;
  try {
    fd = openPin(path);
    if (fd === undefined) return undefined;
    return kind === 'links' ? linkInfo(fd).programId : programId(fd);
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  } finally {
    if (fd !== undefined) closeFd(fd);
  }
}
