// SPDX-License-Identifier: Apache-2.0
// One attached program. A pinned BPF link, or a clsact filter where the kernel has no TCX, keeps it attached when this process
// ends. The process also keeps the link open, so that the program stays attached when another program removes the pin. The
// classes replace the program, and detect and repair changes that others made. devices.ts and sockets.ts decide which hooks get
// a program.
import { isNotFound, KernelError } from '../base/errors.ts';
import { attachClsact, clsactProgram, detachClsact, linkInfo, programId, updateLink } from '../kernel/link.ts';
import { closeFd, openPin, pin } from '../kernel/map.ts';
import type { PinDirectory } from './pins.ts';

/** Every call may throw KernelError. `program` is a descriptor; the caller may close it after the call. */
export interface Attached {
  /** Replaces the program atomically: every packet runs the old one or the new one. */
  replace(program: number): void;
  /** Compares the attachment with the kernel and repairs it. Returns one message for each difference. */
  repair(program: number): string[];
  /** Whether a program is attached in the kernel at this moment. */
  isAttached(): boolean;
  /** Detaches the program. */
  remove(): void;
  /** Closes our descriptor; the program stays attached. */
  close(): void;
}

/** A program of ours and where it is attached. */
export interface Held {
  readonly program: string;
  /** Device name, or cgroup directory. */
  readonly target: string;
  readonly attached: Attached;
}

/** The device does not exist any more: ENODEV for the device, ENOLINK for a link that the kernel has detached from it. */
export const isDeviceGone = (error: unknown): boolean => error instanceof KernelError && ['ENODEV', 'ENOLINK'].includes(error.code);

interface LinkOptions {
  readonly pins: PinDirectory;
  /** Name of the link's pin. */
  readonly name: string;
  /** Creates the link. Returns its descriptor. */
  readonly attach: (program: number) => number;
  /** Whether the link is alive and on the intended hook. */
  readonly isOurs: (link: number) => boolean;
}

export class HeldLink implements Attached {
  readonly #options: LinkOptions;
  #fd = -1;

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

  replace(program: number): void {
    updateLink(this.#fd, program);
  }

  repair(program: number): string[] {
    if (!this.#isAlive(this.#fd)) {
      this.close();
      this.#make(program);
      return ['link was detached'];
    }
    const repaired: string[] = [];
    if (linkInfo(this.#fd).programId !== programId(program)) {
      updateLink(this.#fd, program);
      repaired.push('another program was attached');
    }
    if (this.#pinnedId() !== linkInfo(this.#fd).id) {
      this.#pin();
      repaired.push('pin was missing');
    }
    return repaired;
  }

  isAttached(): boolean {
    return this.#fd >= 0 && this.#isAlive(this.#fd);
  }

  remove(): void {
    this.#options.pins.remove('links', this.#options.name);
    this.close();
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

  constructor(options: FilterOptions) {
    this.#options = options;
  }

  /** Creates the filter, or replaces the filter of an earlier daemon. */
  replace(program: number): void {
    const { pins, name, ifindex, isIngress } = this.#options;
    attachClsact(program, ifindex, isIngress);
    pins.remove('clsact', name);
    pin(program, pins.pathOf('clsact', name));
  }

  repair(program: number): string[] {
    const { pins, name, ifindex, isIngress } = this.#options;
    const held = clsactProgram(ifindex, isIngress);
    const repaired = [
      ...(held === undefined ? ['filter was missing'] : held === programId(program) ? [] : ['another program was attached']),
      ...(pins.has('clsact', name) ? [] : ['pin was missing']),
    ];
    if (repaired.length > 0) this.replace(program);
    return repaired;
  }

  isAttached(): boolean {
    try {
      return clsactProgram(this.#options.ifindex, this.#options.isIngress) !== undefined;
    } catch (error) {
      if (isDeviceGone(error)) return false;
      throw error;
    }
  }

  remove(): void {
    detachClsact(this.#options.ifindex, this.#options.isIngress);
    this.#options.pins.remove('clsact', this.#options.name);
  }

  close(): void {
    // A filter has no descriptor.
  }
}
