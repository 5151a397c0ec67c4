// SPDX-License-Identifier: Apache-2.0
// Periodically compares pins and attachments with the kernel, and repairs what other programs removed or changed: pin
// directories and their lock, pins of maps, links, filters and their place on the hook, and the configuration row. The kernel
// sends no event for such changes. The Reconciler repairs the entries of all other maps.
import type { Clock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { StatusPart } from '../base/status-part.ts';
import { FilterReader } from '../kernel/clsact.ts';
import { type Held, isDeviceGone } from './attached.ts';
import type { Datapath } from './datapath.ts';
import type { PinDirectory } from './pins.ts';

export interface GuardOptions {
  readonly pins: PinDirectory;
  readonly datapath: Datapath;
  /** Every program of ours that is attached now. */
  readonly held: () => Iterable<Held>;
  /** Lists the devices again. Called in each round before the hooks are compared. */
  readonly beforeHooks: () => void;
  readonly clock: Clock;
  readonly periodMs: number;
  /** Called once for each thing that was repaired. */
  readonly onRepaired: (message: string) => void;
  /** Called when a repair fails. Not called again while the repair fails with the same message. */
  readonly onFailed: (message: string) => void;
}

export class Guard implements StatusPart {
  readonly #options: GuardOptions;
  #failures = new Map<string, string>();
  #cancel: (() => void) | undefined;

  constructor(options: GuardOptions) {
    this.#options = options;
  }

  /** Starts the rounds. The first round comes after one period. */
  start(): void {
    const { clock, periodMs } = this.#options;
    this.#cancel = clock.setTimer(periodMs, () => {
      this.look();
      this.start();
    });
  }

  stop(): void {
    this.#cancel?.();
  }

  /** One message for each thing that could not be repaired. */
  problems(): string[] {
    return [...this.#failures.values()];
  }

  /** Runs one round now. Never throws. */
  look(): void {
    const { pins, datapath, held, beforeHooks, clock } = this.#options;
    const before = this.#failures;
    const failures = new Map<string, string>();
    this.#failures = failures;
    const repair = (what: string, task: () => string[]): void => {
      try {
        for (const finding of task()) this.#options.onRepaired(`${what}: ${finding}`);
      } catch (error) {
        const message = `${what} could not be repaired: ${messageOf(error)}`;
        failures.set(what, message);
        if (before.get(what) !== message) this.#options.onFailed(message);
      }
    };
    repair(`pin path ${pins.path}`, () => pins.repair());
    // Without pin directories nothing can be pinned, and one message about it is enough. Programs are attached all the same.
    const canPin = failures.size === 0;
    if (canPin) for (const name of datapath.mapNames()) repair(`map ${name}`, () => datapath.repairPin(name));
    repair('map lb_config', () => datapath.repairConfig());
    repair('devices', () => (beforeHooks(), []));
    const filters = new FilterReader();
    for (const { program, target, attached } of held()) {
      const what = `${program} on ${target}`;
      const step = (task: (fd: number) => string[]): void => {
        if (!failures.has(what)) repair(what, () => repairHook(() => task(datapath.program(program))));
      };
      step((fd) => attached.reattach(fd));
      if (!canPin) continue;
      step((fd) => attached.repairPin(fd));
      step((fd) => attached.keepPlace({ program: fd, copy: () => datapath.copy(program), filters, now: clock.now() }));
    }
    filters.close();
    datapath.closeCopies();
  }
}

/** A device that has disappeared is not a failure: its row is about to be deleted. */
function repairHook(task: () => string[]): string[] {
  try {
    return task();
  } catch (error) {
    if (isDeviceGone(error)) return [];
    throw error;
  }
}
