// SPDX-License-Identifier: Apache-2.0
// One attached program. A pinned BPF link or a clsact filter keeps it attached when this process ends. The process also keeps
// the link open, so that the program stays attached when another program removes the pin. The classes replace the program, and
// detect and repair changes that others made. devices.ts and sockets.ts decide which hooks get a program; tc-hook.ts decides
// between a link and a filter.
import { isNotFound, KernelError } from '../base/errors.ts';
import { attachClsact, clsactProgram, detachClsact, type FilterReader } from '../kernel/clsact.ts';
import { detachLink, linkInfo, programId, updateLink } from '../kernel/link.ts';
import { closeFd, openPin, pin } from '../kernel/map.ts';
import type { PinDirectory } from './pins.ts';

export interface PlaceOptions {
  /** Descriptor of the program that is attached. */
  readonly program: number;
  /** Loads a second copy of the program. Returns its descriptor, which the caller closes after the call. */
  readonly copy: () => number;
  readonly filters: FilterReader;
  /** Clock time in milliseconds. */
  readonly now: number;
}

/** Every call may throw KernelError. `program` is a descriptor; the caller may close it after the call. */
export interface Attached {
  /** Whether the kernel runs a program of this daemon on the hook now. Never throws. */
  isAttached(): boolean;
  /** Replaces the program atomically: every packet runs the old one or the new one. Does nothing while no program is attached. */
  replace(program: number): void;
  /** Attaches the program again if the hook lost it, or has another program. Returns one message for each difference. Needs no bpffs. */
  reattach(program: number): string[];
  /** Creates the pin again if it is missing. Returns one message for each difference. */
  repairPin(program: number): string[];
  /** Moves the program to its place among the programs of the hook, if it is elsewhere. Returns one message for each move. */
  keepPlace(options: PlaceOptions): string[];
  /** Detaches the program. */
  remove(): void;
  /** Closes our descriptor; the program stays attached. */
  close(): void;
}

/** A program of this daemon and the place where it is attached. */
export interface Held {
  readonly program: string;
  /** Device name, or cgroup directory. */
  readonly target: string;
  readonly attached: Attached;
}

/**
 * True for an error that means that the device no longer exists: ENODEV, or ENOLINK for a link that the kernel detached from the device.
 */
export const isDeviceGone = (error: unknown): boolean => error instanceof KernelError && ['ENODEV', 'ENOLINK'].includes(error.code);

interface LinkOptions {
  readonly pins: PinDirectory;
  /** Name of the link's pin. */
  readonly name: string;
  /** Creates the link, in its place among the programs of the hook. Returns its descriptor. */
  readonly attach: (program: number) => number;
  /** Whether the link is alive and on the intended hook. */
  readonly isOurs: (link: number) => boolean;
}

export class HeldLink implements Attached {
  readonly #options: LinkOptions;
  /** Descriptor of the link; -1 while no link is open. */
  #fd = -1;
  /** True from the time reattach() creates the link until the link is pinned. */
  #isNew = false;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  /**
   * Takes over the link that an earlier daemon pinned, and updates it to our program. Creates a new link when there is no link or
   * it is detached. Returns true when it created a link.
   */
  attach(program: number): boolean {
    if (this.#takeOver(program)) return false;
    this.#make(program);
    return true;
  }

  isAttached(): boolean {
    try {
      return this.#isAlive(this.#fd);
    } catch {
      return false;
    }
  }

  replace(program: number): void {
    if (this.#fd >= 0) updateLink(this.#fd, program);
  }

  reattach(program: number): string[] {
    if (!this.#isAlive(this.#fd)) {
      this.close();
      this.#fd = this.#options.attach(program);
      this.#isNew = true;
      return ['link was detached'];
    }
    if (linkInfo(this.#fd).programId === programId(program)) return [];
    updateLink(this.#fd, program);
    return ['another program was attached'];
  }

  repairPin(): string[] {
    if (this.#fd < 0 || this.#pinnedId() === linkInfo(this.#fd).id) return [];
    const isNew = this.#isNew;
    this.#pin();
    // The pin of a new link is created by the same repair as the link, so it is not reported as a repair of its own.
    return isNew ? [] : ['pin was missing'];
  }

  /** The place is not important on the hooks of a cgroup, where every program runs. tc-hook.ts moves the links of tc hooks. */
  keepPlace(): string[] {
    return [];
  }

  /**
   * Replaces the link by a new one, which is in its place. For a moment both are attached, so that no packet passes without a program.
   * The kernel rejects the same program twice on a hook, so the new link begins with the copy.
   */
  move({ program, copy }: Pick<PlaceOptions, 'program' | 'copy'>): void {
    const before = this.#fd;
    this.#fd = this.#options.attach(copy());
    try {
      this.#pin();
    } catch (error) {
      this.close();
      this.#fd = before;
      throw error;
    }
    try {
      detachLink(before);
    } finally {
      closeFd(before);
    }
    updateLink(this.#fd, program);
  }

  remove(): void {
    try {
      this.#options.pins.remove('links', this.#options.name);
    } finally {
      this.close();
    }
  }

  close(): void {
    if (this.#fd >= 0) closeFd(this.#fd);
    this.#fd = -1;
  }

  #takeOver(program: number): boolean {
    const { pins, name } = this.#options;
    const link = openPin(pins.pathOf('links', name));
    if (link === undefined) return false;
    this.#fd = link;
    try {
      if (this.#isAlive(link)) {
        updateLink(link, program);
        return true;
      }
    } catch (error) {
      this.close();
      throw error;
    }
    this.close();
    return false;
  }

  #make(program: number): void {
    this.#fd = this.#options.attach(program);
    try {
      this.#pin();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #pin(): void {
    const { pins, name } = this.#options;
    pins.remove('links', name);
    pin(this.#fd, pins.pathOf('links', name));
    this.#isNew = false;
  }

  /** Id of the link that is pinned under our name; undefined when there is none. */
  #pinnedId(): number | undefined {
    const { pins, name } = this.#options;
    const link = openPin(pins.pathOf('links', name));
    if (link === undefined) return undefined;
    try {
      return linkInfo(link).id;
    } finally {
      closeFd(link);
    }
  }

  #isAlive(link: number): boolean {
    if (link < 0) return false;
    try {
      return this.#options.isOurs(link);
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }
}

interface FilterOptions {
  readonly pins: PinDirectory;
  /** Name under which the program is pinned; uninstall finds the filter by it. */
  readonly name: string;
  readonly ifindex: number;
  readonly isIngress: boolean;
}

export class ClsactFilter implements Attached {
  readonly #options: FilterOptions;
  /** True from the time reattach() creates the filter until the program of the filter is pinned. */
  #isNew = false;

  constructor(options: FilterOptions) {
    this.#options = options;
  }

  isAttached(): boolean {
    try {
      return this.#held() !== undefined;
    } catch {
      return false;
    }
  }

  /** Creates the filter, or replaces the filter of an earlier daemon. */
  replace(program: number): void {
    attachClsact(program, this.#options.ifindex, this.#options.isIngress);
    this.#pin(program);
  }

  reattach(program: number): string[] {
    const held = this.#held();
    if (held === programId(program)) return [];
    attachClsact(program, this.#options.ifindex, this.#options.isIngress);
    this.#isNew = true;
    return [held === undefined ? 'filter was missing' : 'another program was attached'];
  }

  repairPin(program: number): string[] {
    const { pins, name } = this.#options;
    const isNew = this.#isNew;
    const isMissing = !pins.has('clsact', name);
    if (isNew || isMissing) this.#pin(program);
    return isMissing && !isNew ? ['pin was missing'] : [];
  }

  /** The priority of the filter is its place. */
  keepPlace(): string[] {
    return [];
  }

  remove(): void {
    detachClsact(this.#options.ifindex, this.#options.isIngress);
    this.#options.pins.remove('clsact', this.#options.name);
  }

  close(): void {
    // Nothing to close: a filter has no descriptor.
  }

  /** Id of the program of our filter; undefined when there is no filter. */
  #held(): number | undefined {
    return clsactProgram(this.#options.ifindex, this.#options.isIngress);
  }

  #pin(program: number): void {
    const { pins, name } = this.#options;
    pins.remove('clsact', name);
    pin(program, pins.pathOf('clsact', name));
    this.#isNew = false;
  }
}
