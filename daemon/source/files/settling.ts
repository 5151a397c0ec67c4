// SPDX-License-Identifier: Apache-2.0
// The files whose state is uncertain, and for how long they have not changed. A file is settled when it has not changed for settleMs: two
// equal readings alone do not show that, because a program may write and empty the file again between them. A file that never settles is
// reported, and stays as it was. It must never read the content of a file. Used by files-source.ts.
import type { Clock } from '../../base/clock.ts';

/** Time in ms after which a file that has not settled is reported. A person who saves a file, or a slow download, needs less. */
const MAX_UNSETTLED_MS = 10_000;

interface Options {
  readonly clock: Pick<Clock, 'setTimer'>;
  readonly settleMs: number;
  /** Called when an uncertain file has not changed for settleMs, so that it is read again. */
  readonly onDue: () => void;
  /** Called when the result of restless() changes without a new reading. */
  readonly onRestless: () => void;
}

interface File {
  /** False while the last reading was certain. The file is kept until it has not changed for settleMs. */
  isUncertain: boolean;
  /** The result of changeStamp() after the last known change; undefined until it is read. */
  stamp: string | undefined;
  /** True when the file has not changed for settleMs. */
  isDue: boolean;
  /** True when the file has not settled for MAX_UNSETTLED_MS. */
  isRestless: boolean;
  cancelDue: () => void;
  readonly cancelRestless: () => void;
}

export class Settling {
  readonly #options: Options;
  readonly #files = new Map<string, File>();

  constructor(options: Options) {
    this.#options = options;
  }

  /** The state of the file is uncertain: begins to wait. `stamp` is the result of changeStamp() after the reading. */
  wait(name: string, stamp: string): void {
    const file = this.#files.get(name) ?? this.#add(name);
    file.isUncertain = true;
    file.stamp = stamp;
    this.#restart(name, file);
  }

  /** The state of the file is certain. A file that goes on changing is still observed, so that it is reported. */
  release(name: string): void {
    const file = this.#files.get(name);
    if (file === undefined) return;
    file.isUncertain = false;
    if (file.isDue) this.#remove(name, file);
  }

  /** An event says that the file may have changed: the wait begins again. */
  changed(name: string): void {
    const file = this.#files.get(name);
    if (file === undefined) return;
    file.stamp = undefined;
    this.#restart(name, file);
  }

  /**
   * Whether the file, whose reading was the same again, has not changed for settleMs. `stampOf` returns its present changeStamp(): if it
   * differs from the last one, the file was changed without an event, as the target of a link may be, and the wait begins again.
   */
  isSettled(name: string, stampOf: () => string): boolean {
    const file = this.#files.get(name);
    if (file === undefined) return false;
    if (!file.isDue) {
      file.stamp ??= stampOf();
      return false;
    }
    const stamp = stampOf();
    if (file.stamp === stamp) return true;
    file.stamp = stamp;
    this.#restart(name, file);
    return false;
  }

  /** Whether the state of the file is uncertain. */
  has(name: string): boolean {
    return this.#files.get(name)?.isUncertain === true;
  }

  /** The files that change all the time. */
  restless(): string[] {
    return [...this.#files].filter(([, { isRestless, isDue }]) => isRestless && !isDue).map(([name]) => name);
  }

  /** Stops to wait for all files. Returns the names of those whose state is uncertain. */
  clear(): string[] {
    const files = [...this.#files];
    for (const [name, file] of files) this.#remove(name, file);
    return files.filter(([, { isUncertain }]) => isUncertain).map(([name]) => name);
  }

  #add(name: string): File {
    const cancelRestless = this.#options.clock.setTimer(MAX_UNSETTLED_MS, () => {
      file.isRestless = true;
      this.#options.onRestless();
    });
    const file: File = { isUncertain: true, stamp: undefined, isDue: false, isRestless: false, cancelDue: () => undefined, cancelRestless };
    this.#files.set(name, file);
    return file;
  }

  #restart(name: string, file: File): void {
    file.cancelDue();
    file.isDue = false;
    file.cancelDue = this.#options.clock.setTimer(this.#options.settleMs, () => {
      file.isDue = true;
      if (file.isUncertain) this.#options.onDue();
      else this.#end(name, file);
    });
  }

  /** A file whose last reading was certain has come to rest. */
  #end(name: string, file: File): void {
    this.#remove(name, file);
    if (file.isRestless) this.#options.onRestless();
  }

  #remove(name: string, file: File): void {
    file.cancelDue();
    file.cancelRestless();
    this.#files.delete(name);
  }
}
