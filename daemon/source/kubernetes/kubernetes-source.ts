// SPDX-License-Identifier: Apache-2.0
// The API server as a source of Services, EndpointSlices, this Node and ServiceCIDRs: a reflector for each over one
// connection. With the server out of reach everything stays as it is known, and the source is not complete until every
// list has been finished once.
import type { Clock } from '../../base/clock.ts';
import { compareProblems, type ProblemLog, ProblemReporter, type SourceProblem } from '../problems.ts';
import { type Kind, kindNames } from '../kinds.ts';
import type { Source } from '../source.ts';
import { type ObjectTables, tableOf } from '../tables.ts';
import type { ApiClient } from './api-client.ts';
import { Intake } from './intake.ts';
import { Reflector } from './reflector.ts';
import { resourcesOf } from './resources.ts';

export interface KubernetesSourceOptions {
  readonly client: ApiClient & { close(): void };
  /** Name of the Node that this agent serves. */
  readonly node: string;
  readonly tables: ObjectTables;
  readonly clock: Clock;
  readonly log: ProblemLog;
  /** isComplete has become true. */
  readonly onComplete: () => void;
  /** The last of all objects of that kind is in its table, for the first time. */
  readonly onListed?: (kind: Kind) => void;
  /** Of the API server, for people. */
  readonly address: string;
  /** How messages name the credentials. */
  readonly credentials: string;
  /** In [0, 1). */
  readonly random?: () => number;
}

export class KubernetesSource implements Source {
  readonly name: string;
  readonly #options: KubernetesSourceOptions;
  readonly #parts: readonly { readonly intake: Intake; readonly reflector: Reflector }[];
  readonly #reporter: ProblemReporter;
  readonly #finish = new Map<Kind, () => void>();
  readonly #stopping = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  #isReporting = false;
  #wasComplete = false;

  constructor(options: KubernetesSourceOptions) {
    this.#options = options;
    this.name = `kubernetes ${options.address}`;
    this.#reporter = new ProblemReporter(options.log);
    const { client, clock, credentials, random = Math.random } = options;
    this.#parts = resourcesOf(options.node).map((resource) => {
      const intake = new Intake(resource, options.tables);
      const onListed = (): void => {
        options.onListed?.(resource.kind);
        this.#finish.get(resource.kind)?.();
      };
      const onChange = (): void => this.#report();
      const reflector = new Reflector({ client, resource, intake, clock, random, credentials, onListed, onChange });
      return { intake, reflector };
    });
  }

  /** Registers with the tables; returns at once: the server may be long in coming. */
  start(): Promise<void> {
    for (const kind of kindNames) this.#finish.set(kind, tableOf(this.#options.tables, kind).registerSource(this.name));
    this.#running = Promise.all(this.#parts.map(({ reflector }) => reflector.run(this.#stopping.signal)));
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new DOMException('stopping', 'AbortError'));
    await this.#running;
    this.#options.client.close();
  }

  /** Lists everything again; returns at once. */
  rescan(): Promise<void> {
    for (const { reflector } of this.#parts) reflector.relist();
    return Promise.resolve();
  }

  problems(): readonly SourceProblem[] {
    // One cause is one problem, whatever it stands in the way of.
    const obstacles = new Map(
      this.#parts.flatMap(({ reflector: { problem } }) => (problem === undefined ? [] : [[problem.about, problem]])),
    );
    const own = [...obstacles.values()].map((obstacle) => ({ file: '', line: 0, kind: '', object: '', field: '', ...obstacle }));
    return [...own, ...this.#parts.flatMap(({ intake }) => intake.problems())].toSorted(compareProblems);
  }

  /** Every list was finished, and of each object there is a row. */
  get isComplete(): boolean {
    return this.#parts.every(({ reflector, intake }) => reflector.isListed && intake.isComplete);
  }

  /** Once per turn, however many objects came with it. */
  #report(): void {
    if (this.#isReporting) return;
    this.#isReporting = true;
    setImmediate(() => {
      this.#isReporting = false;
      if (this.#stopping.signal.aborted) return;
      this.#reporter.report(this.problems());
      const { isComplete } = this;
      // What made it so may be on its way through the tables in this turn.
      if (isComplete && !this.#wasComplete) setImmediate(this.#options.onComplete);
      this.#wasComplete = isComplete;
    });
  }
}
