// SPDX-License-Identifier: Apache-2.0
// One program on one hook that outlives this process: a pinned BPF link, or a clsact filter where the kernel has no TCX.
// The link is also held open, so that whoever removes its pin interrupts nothing. Knows how to replace the program, to
// notice what was changed behind our back, and to put it back; which hooks there are is devices.ts and sockets.ts.
import { isNotFound, KernelError } from '../base/errors.ts';
import { attachClsact, clsactProgram, detachClsact, linkInfo, programId, updateLink } from '../kernel/link.ts';
import { closeFd, openPin, pin } from '../kernel/map.ts';
import type { PinDirectory } from './pins.ts';

/** Every call throws KernelError. `program` is a descriptor; it may be closed once the call is over. */
export interface Attached {
  /** Puts another program there, between two packets. */
  replace(program: number): void;
  /** Compares with the kernel and puts back what is missing: one clause for each, none when all is as we left it. */
  repair(program: number): string[];
  /** Takes the program off. */
  remove(): void;
  /** Closes our descriptor; the program stays. */
  close(): void;
}

/** A program of ours where it is attached. */
export interface Held {
  readonly program: string;
  /** Device name, or cgroup directory. */
  readonly target: string;
  readonly attached: Attached;
}

/** The device vanished while a program was attached to it. */
export const isDeviceGone = (error: unknown): boolean => error instanceof KernelError && error.code === 'ENODEV';

interface LinkOptions {
  readonly pins: PinDirectory;
  /** Name of its pin. */
  readonly name: string;
  /** Makes the link. Returns its descriptor. */
  readonly attach: (program: number) => number;
  /** The link is alive, and on the hook that is meant. */
  readonly isOurs: (link: number) => boolean;
}

export class HeldLink implements Attached {
  readonly #options: LinkOptions;
  #fd = -1;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  /**
   * Takes over the link that an earlier daemon pinned, with our program; makes one where there is none, or a dead one.
   * True when it was made.
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

  /** Id of the link that is pinned under our name. */
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
  /** Name of the pin of the program, by which uninstall finds the filter. */
  readonly name: string;
  readonly ifindex: number;
  readonly isIngress: boolean;
}

export class ClsactFilter implements Attached {
  readonly #options: FilterOptions;

  constructor(options: FilterOptions) {
    this.#options = options;
  }

  /** Makes the filter, or replaces an earlier daemon's. */
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

  remove(): void {
    detachClsact(this.#options.ifindex, this.#options.isIngress);
    this.#options.pins.remove('clsact', this.#options.name);
  }

  close(): void {
    // A filter has no descriptor.
  }
}
