// SPDX-License-Identifier: Apache-2.0
// The API server as a source of API objects: one reflector per resource, all over one connection. While the server is
// unreachable, the rows stay unchanged.
import type { Clock } from '../../base/clock.ts';
import { type Kind, kindNames } from '../kinds.ts';
import { limited, type ProblemLog, ProblemReporter, type SourceProblem } from '../problems.ts';
import type { Source } from '../source.ts';
import { type ObjectTables, tableOf } from '../tables.ts';
import type { ApiClient } from './api-client.ts';
import { Reflector } from './reflector.ts';
import { resourcesOf } from './resources.ts';
import { TableWriter } from './table-writer.ts';

export interface KubernetesSourceOptions {
  readonly client: ApiClient & { close(): void };
  /** Name of this agent's Node. */
  readonly node: string;
  readonly tables: ObjectTables;
  readonly clock: Clock;
  readonly log: ProblemLog;
  /** Called when isComplete has become true. */
  readonly onComplete: () => void;
  /** Called when the first list of this kind is in its table. */
  readonly onListed?: (kind: Kind) => void;
  /** Address of the API server, for messages. */
  readonly address: string;
  /** Text by which messages name the credentials, such as "user admin of /root/.kube/config". */
  readonly credentials: string;
  /** Returns numbers in [0, 1). */
  readonly random?: () => number;
}

interface Follower {
  readonly writer: TableWriter;
  readonly reflector: Reflector;
}

export class KubernetesSource implements Source {
  readonly name: string;
  readonly omissions = '';
  readonly #options: KubernetesSourceOptions;
  readonly #followers: readonly Follower[];
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
    this.#followers = resourcesOf(options.node).map((resource) => {
      const writer = new TableWriter(resource, { tables: options.tables, redact: (text) => client.redact(text) });
      const onListed = (): void => {
        options.onListed?.(resource.kind);
        this.#finish.get(resource.kind)?.();
      };
      const onChange = (): void => this.#scheduleReport();
      const reflector = new Reflector({ client, resource, writer, clock, random, credentials, onListed, onChange });
      return { writer, reflector };
    });
  }

  /** Registers with the tables and returns at once, because the server may be unreachable for long. */
  start(): Promise<void> {
    for (const kind of kindNames) this.#finish.set(kind, tableOf(this.#options.tables, kind).registerSource(this.name));
    this.#running = Promise.all(this.#followers.map(({ reflector }) => reflector.run(this.#stopping.signal)));
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new DOMException('stopping', 'AbortError'));
    await this.#running;
    this.#options.client.close();
  }

  /** Lists everything again. Returns at once. */
  rescan(): Promise<void> {
    for (const { reflector } of this.#followers) reflector.relist();
    return Promise.resolve();
  }

  problems(): readonly SourceProblem[] {
    // If several resources have a problem with the same cause, it is reported once.
    const ofReflectors = new Map(
      this.#followers.flatMap(({ reflector: { problem } }) => (problem === undefined ? [] : [[problem.identity, problem]])),
    );
    const own = [...ofReflectors.values()].map((problem) => ({ file: '', line: 0, kind: '', object: '', field: '', ...problem }));
    const ofObjects = this.#followers.values().flatMap(({ writer }) => writer.problems());
    return limited([own.values(), ofObjects].values().flatMap((each) => each));
  }

  /** True if each resource was listed, and each object has a row or needs none. */
  get isComplete(): boolean {
    return this.#followers.every(({ reflector, writer }) => reflector.isListed && writer.isComplete);
  }

  /** Reports once per turn, however many objects changed. */
  #scheduleReport(): void {
    if (this.#isReporting) return;
    this.#isReporting = true;
    setImmediate(() => {
      this.#isReporting = false;
      if (this.#stopping.signal.aborted) return;
      this.#reporter.report(this.problems());
      const { isComplete } = this;
      // onComplete is called in the next turn, because tables may still notify observers of the last rows later in this turn.
      if (isComplete && !this.#wasComplete) setImmediate(this.#options.onComplete);
      this.#wasComplete = isComplete;
    });
  }
}
