// SPDX-License-Identifier: Apache-2.0
// The interface of a source to the rest of the daemon. A source is started once. It deletes a row only when it knows that the
// object is gone.
import type { SourceProblem } from './problems.ts';

export interface Source {
  /** Name in status and metrics: "files /etc/sluice". */
  readonly name: string;
  /** Registers with the tables and keeps them up to date until stop(). */
  start(): Promise<void>;
  /** No row is written after this call returns. The rows stay. */
  stop(): Promise<void>;
  /** Reads everything again. */
  rescan(): Promise<void>;
  /** The present problems, sorted. */
  problems(): readonly SourceProblem[];
  /** Text for people about the objects that the source ignores on purpose; "" when there are none. */
  readonly omissions: string;
  /** True if everything was read and understood. Only then may map entries without a row be pruned. */
  readonly isComplete: boolean;
}
