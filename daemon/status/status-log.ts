// SPDX-License-Identifier: Apache-2.0
// Logs the problems in the status that no other part logs: problems of the host, of the settings and between Services. Each problem is
// logged once when it appears or changes, and once when it is resolved, however often it is computed. Reads only. Built and started by
// agent/.
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import { conflictText } from './severity.ts';
import type { ConflictStatus } from './view.ts';

export interface StatusLogOptions {
  /** The present problems. */
  readonly problems: () => readonly string[];
  readonly conflicts: () => readonly ConflictStatus[];
  readonly clock: Pick<Clock, 'setTimer'>;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

/** Interval at which the current problems are compared with the problems that were logged. */
const PERIOD_MS = 5000;
/** Maximum number of log lines of one comparison. Ten thousand frontends can be contested. */
const MAX_LINES = 50;
/**
 * Maximum number of conflicts that are compared. More lines would not help a reader of the log, and comparing takes time.
 */
const MAX_CONFLICTS = 1000;

export class StatusLog {
  readonly #options: StatusLogOptions;
  /** The text of each problem that was logged, by the subject of the problem. */
  #logged = new Map<string, string>();
  #cancel = (): void => undefined;

  constructor(options: StatusLogOptions) {
    this.#options = options;
  }

  /** Compares now, and then periodically until stop(). */
  start(): void {
    this.look();
    this.#cancel = this.#options.clock.setTimer(PERIOD_MS, () => this.start());
  }

  stop(): void {
    this.#cancel();
  }

  /** Logs the problems that appeared, changed or were resolved since the previous call. */
  look(): void {
    const { log } = this.#options;
    const before = this.#logged;
    this.#logged = this.#present();
    const appeared = [...this.#logged].filter(([subject, text]) => before.get(subject) !== text).map(([, text]) => text);
    const resolved = [...before].filter(([subject]) => !this.#logged.has(subject)).map(([, text]) => text);
    for (const text of appeared.slice(0, MAX_LINES)) log.warn(text);
    if (appeared.length > MAX_LINES)
      log.warn({ notLogged: appeared.length - MAX_LINES }, 'further problems are not logged; see sluice status');
    for (const text of resolved.slice(0, MAX_LINES)) log.info(`resolved: ${text}`);
    if (resolved.length > MAX_LINES) log.info({ notLogged: resolved.length - MAX_LINES }, 'further resolved problems are not logged');
  }

  #present(): Map<string, string> {
    const { problems, conflicts } = this.#options;
    return new Map([
      ...problems().map((text): [string, string] => [text, text]),
      ...conflicts()
        .slice(0, MAX_CONFLICTS)
        .map((conflict): [string, string] => [`frontend ${conflict.frontend}`, `frontend ${conflictText(conflict)}`]),
    ]);
  }
}
