// SPDX-License-Identifier: Apache-2.0
// Takes the node over from kube-proxy, and gives it back: changes the phase of the datapath, and attaches or detaches the socket hooks that
// translate requests. While the datapath drains, it counts the flows that are open. The phase is in a pinned map, so a restart of the daemon
// does not change it. Built by agent/; the API calls it.
import type { Clock } from '../base/clock.ts';
import { ExitCode, ExitError, messageOf } from '../base/errors.ts';
import { Pacer, type Pace } from '../base/slices.ts';
import type { StatusPart } from '../base/status-part.ts';
import { countOpenFlows } from '../maps/read/open-flows.ts';
import type { OpenFlows, Phase } from '../model/phase.ts';
import type { Datapath } from './datapath.ts';
import type { Sockets } from './sockets.ts';

/** Milliseconds from the end of a count to the next one. A count of full tables takes tenths of a second, in slices. */
const COUNT_EVERY_MS = 2000;

export interface HandoverOptions {
  readonly datapath: Pick<Datapath, 'phase' | 'map'>;
  readonly sockets: Pick<Sockets, 'detachRequests'>;
  /** Attaches the socket programs that the settings and the phase ask for. */
  readonly attachSockets: () => void;
  readonly clock: Clock;
  readonly pace: Pace;
  readonly onChanged: (phase: Phase) => void;
}

export class Handover implements StatusPart {
  readonly #options: HandoverOptions;
  #openFlows: OpenFlows | undefined;
  #counting: Promise<OpenFlows> | undefined;
  #problem = '';
  #cancel: (() => void) | undefined;
  #isStopped = false;

  constructor(options: HandoverOptions) {
    this.#options = options;
  }

  get phase(): Phase {
    return this.#options.datapath.phase;
  }

  /** The flows that were open at the last count. Undefined unless the datapath drains, and before the first count. */
  get openFlows(): OpenFlows | undefined {
    return this.phase === 'draining' ? this.#openFlows : undefined;
  }

  problems(): string[] {
    return this.#problem === '' ? [] : [this.#problem];
  }

  /** Continues to count if an earlier daemon drained. */
  start(): void {
    if (this.phase === 'draining') this.#countLater(0);
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel?.();
  }

  /** From now on new connections are left to kube-proxy. Resolves with the flows that are open. Idempotent. Rejects with KernelError. */
  async drain(): Promise<OpenFlows> {
    this.#change('draining');
    try {
      this.#options.sockets.detachRequests();
      return await this.#count();
    } finally {
      this.#countLater(COUNT_EVERY_MS);
    }
  }

  /**
   * Serves new connections, and leaves the open connections of kube-proxy alone until `isDone`. Idempotent. Throws ExitError when it cannot
   * be done in the present phase, and KernelError.
   */
  migrate(isDone: boolean): void {
    const before = this.phase;
    if (isDone && before === 'draining')
      throw new ExitError(
        ExitCode.failure,
        'the agent drains, so kube-proxy has open connections: run `sluice migrate` first, and `sluice migrate --done` when they have ended',
      );
    this.#cancel?.();
    this.#change(isDone ? 'serving' : 'migrating');
    // Also in the phase migrating, since an earlier call may have failed to attach them.
    this.#options.attachSockets();
  }

  #change(phase: Phase): void {
    const { datapath, onChanged } = this.#options;
    if (datapath.phase === phase) return;
    this.#openFlows = undefined;
    this.#problem = '';
    datapath.phase = phase;
    onChanged(phase);
  }

  #countLater(ms: number): void {
    this.#cancel?.();
    if (this.#isStopped || this.phase !== 'draining') return;
    this.#cancel = this.#options.clock.setTimer(ms, () => {
      this.#count()
        .then(() => (this.#problem = ''))
        .catch((error: unknown) => (this.#problem = `the open flows cannot be counted: ${messageOf(error)}`))
        .finally(() => this.#countLater(COUNT_EVERY_MS));
    });
  }

  /** One count at a time, however many callers wait for it. */
  #count(): Promise<OpenFlows> {
    const { datapath, pace } = this.#options;
    this.#counting ??= new Pacer(pace, () => this.#refuseStopped())
      .run(countOpenFlows((name) => datapath.map(name)))
      .then((counted) => (this.#openFlows = counted))
      .finally(() => (this.#counting = undefined));
    return this.#counting;
  }

  #refuseStopped(): void {
    if (this.#isStopped) throw new ExitError(ExitCode.failure, 'the agent stops');
  }
}
