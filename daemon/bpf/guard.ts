// SPDX-License-Identifier: Apache-2.0
// Notices what others took away or changed of what we pinned and attached, puts it back and says so: pin directories and
// their lock, pins of maps, links, filters, the configuration row. Looks once in a period; the kernel tells of none of this. What
// is in the data maps is the reconciler's to guard.
import type { Clock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Datapath } from './datapath.ts';
import type { Devices } from './devices.ts';
import type { PinDirectory } from './pins.ts';
import type { Sockets } from './sockets.ts';

export interface GuardOptions {
  readonly pins: PinDirectory;
  readonly datapath: Datapath;
  readonly sockets: Sockets;
  readonly devices: Devices;
  readonly clock: Clock;
  readonly periodMs: number;
  /** Hears each thing once, when it has been put back. */
  readonly onRepaired: (sentence: string) => void;
  /** Hears of a failure once, until it is over. */
  readonly onFailed: (sentence: string) => void;
}

export class Guard {
  readonly #options: GuardOptions;
  #failures = new Map<string, string>();
  #cancel: (() => void) | undefined;

  constructor(options: GuardOptions) {
    this.#options = options;
  }

  /** Looks for the first time when a period is over. */
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

  /** What could not be repaired, one sentence each. */
  problems(): string[] {
    return [...this.#failures.values()];
  }

  /** One round, now. */
  look(): void {
    const { pins, datapath, sockets, devices } = this.#options;
    const before = this.#failures;
    const failures = new Map<string, string>();
    this.#failures = failures;
    const repair = (what: string, task: () => string[]): void => {
      try {
        for (const finding of task()) this.#options.onRepaired(`${what}: ${finding}`);
      } catch (error) {
        const sentence = `${what} could not be repaired: ${messageOf(error)}`;
        failures.set(what, sentence);
        if (before.get(what) !== sentence) this.#options.onFailed(sentence);
      }
    };
    repair(`pin path ${pins.path}`, () => pins.repair());
    // Without a place for pins nothing can be put back; what is attached is held by our descriptors.
    if (failures.size > 0) return;
    for (const name of datapath.mapNames()) repair(`map ${name}`, () => datapath.repairPin(name));
    repair('map lb_config', () => datapath.repairConfig());
    devices.sync();
    for (const { program, target, attached } of [...sockets.held(), ...devices.held()]) {
      repair(`${program} on ${target}`, () => attached.repair(datapath.program(program)));
    }
  }
}
