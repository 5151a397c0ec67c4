// SPDX-License-Identifier: Apache-2.0
// The program of Sluice on one tc hook of a device, in its place among the programs of other owners: first at ingress, last at egress, so
// that the others see the addresses that the stack of the node sees. The kernel runs TCX programs before clsact filters, so the program is a
// TCX link, except at egress of a device with filters of another owner, and where the kernel has no TCX. Called by devices.ts and guard.ts.
import { FilterReader } from '../kernel/clsact.ts';
import { attachTcx, linkInfo, programId, programNameById, tcxPrograms } from '../kernel/link.ts';
import { type Attached, ClsactFilter, HeldLink, type PlaceOptions } from './attached.ts';
import type { PinDirectory } from './pins.ts';

/** Limits of the moves on one hook, so that two agents that both insist on the same place do not move for ever. */
export const MOVE_INTERVAL_MS = 60_000;
export const MOVES_PER_HOUR = 3;
const HOUR_MS = 3_600_000;

export interface TcHookOptions {
  readonly pins: PinDirectory;
  /** Name of the pin of the link or the filter. */
  readonly name: string;
  readonly ifindex: number;
  readonly isIngress: boolean;
  /** Whether the kernel has TCX. */
  readonly hasTcx: boolean;
}

/** The name of a program of another owner, or its id if this process may not read the name. */
export const programText = (id: number): string => programNameById(id) ?? `program ${id}`;

export class TcHook implements Attached {
  readonly #options: TcHookOptions;
  readonly #link: HeldLink;
  readonly #filter: ClsactFilter;
  #current: HeldLink | ClsactFilter;
  /** Clock times of the moves in the last hour, the oldest first. */
  #moves: readonly number[] = [];

  constructor(options: TcHookOptions) {
    const { pins, name, ifindex, isIngress, hasTcx } = options;
    this.#options = options;
    this.#link = new HeldLink({
      ...{ pins, name, attach: (program) => attachTcx(program, ifindex, isIngress) },
      isOurs: (link) => linkInfo(link).ifindex === ifindex,
    });
    this.#filter = new ClsactFilter({ pins, name, ifindex, isIngress });
    this.#current = hasTcx ? this.#link : this.#filter;
  }

  get kind(): 'tcx' | 'clsact' {
    return this.#current === this.#link ? 'tcx' : 'clsact';
  }

  /** Attaches the program, or takes over the link or the filter of an earlier daemon. What is not used any more is removed afterwards. */
  attach(program: number): void {
    this.#choose();
    if (this.kind === 'tcx') this.#link.attach(program);
    else this.#filter.replace(program);
    this.#removeOther();
  }

  isAttached(): boolean {
    return this.#current.isAttached();
  }

  replace(program: number): void {
    this.#current.replace(program);
  }

  reattach(program: number): string[] {
    if (this.isAttached()) return this.#current.reattach(program);
    const lost = this.kind;
    this.#choose();
    const findings = this.#current.reattach(program);
    return lost === this.kind ? findings : [`${lost === 'tcx' ? 'link was detached' : 'filter was missing'}`];
  }

  repairPin(program: number): string[] {
    this.#removeOther();
    return this.#current.repairPin(program);
  }

  keepPlace(options: PlaceOptions): string[] {
    const { program, now } = options;
    if (this.kind === 'clsact') return [];
    const filters = this.#foreignFilters(options.filters);
    const misplaced = filters.length > 0 ? filters : this.#misplaced(programId(program));
    if (misplaced.length === 0 || !this.#mayMove(now)) return [];
    this.#moves = [...this.#moves, now];
    if (filters.length > 0) {
      this.#filter.replace(program);
      this.#current = this.#filter;
      this.#removeOther();
    } else this.#link.move(options);
    return [`moved ${this.#options.isIngress ? 'before' : 'behind'} ${misplaced.join(', ')}`];
  }

  /** Removes the link and the filter, also those of an earlier daemon. */
  remove(): void {
    try {
      this.#link.remove();
    } finally {
      this.#removeFilter();
    }
  }

  close(): void {
    this.#link.close();
  }

  #choose(): void {
    const filters = new FilterReader();
    try {
      this.#current = this.#options.hasTcx && this.#foreignFilters(filters).length === 0 ? this.#link : this.#filter;
    } finally {
      filters.close();
    }
  }

  /** The filters of other owners that a TCX program cannot run behind. At ingress a TCX program runs first in any case. */
  #foreignFilters(filters: FilterReader): string[] {
    const { ifindex, isIngress } = this.#options;
    if (isIngress) return [];
    const foreign = filters.read(ifindex, isIngress).filter(({ isOurs }) => !isOurs);
    return [...new Set(foreign.map(({ name }) => `the filter ${name}`))];
  }

  /** The TCX programs that are before ours at ingress, or behind it at egress. */
  #misplaced(own: number): string[] {
    const { ifindex, isIngress } = this.#options;
    const ids = tcxPrograms(ifindex, isIngress);
    const at = ids.indexOf(own);
    return at === -1 ? [] : (isIngress ? ids.slice(0, at) : ids.slice(at + 1)).map(programText);
  }

  #mayMove(now: number): boolean {
    this.#moves = this.#moves.filter((at) => now - at < HOUR_MS);
    return this.#moves.length < MOVES_PER_HOUR && now - (this.#moves.at(-1) ?? -Infinity) >= MOVE_INTERVAL_MS;
  }

  /** The program must be attached as a link or as a filter, never as both, because it would then run twice for each packet. */
  #removeOther(): void {
    if (this.kind === 'tcx') this.#removeFilter();
    else this.#link.remove();
  }

  #removeFilter(): void {
    if (this.#options.pins.has('clsact', this.#options.name)) this.#filter.remove();
  }
}
