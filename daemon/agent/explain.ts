// SPDX-License-Identifier: Apache-2.0
// `sluice explain` against the running datapath: connects the read-only programs, the daemon's maps and tables, and this host.
// The first request loads the programs, in another thread. A request must never write a map of the datapath. Built by agent.ts.
import type { Config } from '../config/schema.ts';
import type { Services } from './services.ts';
import { Explainer, type SocketHooks } from '../explain/explainer.ts';
import { ThisHost } from '../explain/this-host.ts';
import type { Held } from '../bpf/attached.ts';
import { type Datapath, objectsPath } from '../bpf/datapath.ts';
import { ExplainPrograms } from '../explain/programs.ts';
import type { LbMaps } from '../maps/types.ts';
import type { DesiredDevice } from '../model/device.ts';
import type { Explanation, PacketQuery } from '../model/explanation.ts';
import type { TableView } from '../table/table.ts';

interface ExplainServiceOptions {
  readonly config: Config;
  readonly datapath: Datapath;
  readonly services: Services;
  readonly maps: LbMaps;
  /** The programs of this daemon on their hooks. */
  readonly held: () => Iterable<Held>;
  /** The devices that must have programs. */
  readonly devices: TableView<number, DesiredDevice>;
}

export class ExplainService {
  readonly #options: ExplainServiceOptions;
  #programs: ExplainPrograms | undefined;
  #loading: Promise<void> | undefined;
  /** Number of calls of close(). */
  #closed = 0;

  constructor(options: ExplainServiceOptions) {
    this.#options = options;
  }

  /** Resolves when the programs are loaded. Otherwise explain() loads them, which delays everything else. Rejects with KernelError. */
  ready(): Promise<void> {
    if (this.#programs !== undefined) return Promise.resolve();
    this.#loading ??= this.#load().finally(() => (this.#loading = undefined));
    return this.#loading;
  }

  /** Yields one answer for each question, and computes it when the caller takes it. Throws ExitError for a question that is not valid. */
  *explain(questions: readonly PacketQuery[]): Generator<Explanation, void> {
    const { services, maps } = this.#options;
    const host = this.#host();
    const owners = services.owners();
    const explainer = new Explainer({
      // The programs are loaded again if a reload between two questions has unloaded them.
      programs: { run: (...packet) => this.#loaded().run(...packet), connect: (call) => this.#loaded().connect(call) },
      ...{ maps, sockets: this.#sockets() },
      owners: () => owners,
      ports: (key) => services.desired.get(key),
      service: (key) => services.services.get(key),
      originOf: (source) => host.originOf(source),
      deviceOf: (question) => host.deviceOf(question),
      deviceName: (ifindex) => host.deviceName(ifindex),
      isPodInterface: (origin, iface) => (iface === undefined ? origin === 'pod' : host.isPodInterface(iface)),
    });
    for (const question of questions) yield explainer.explain(question);
  }

  /**
   * Unloads the programs. Must be called after a reload, because these programs and the newly attached programs may then be of
   * different versions.
   */
  close(): void {
    this.#closed += 1;
    this.#programs?.close();
    this.#programs = undefined;
  }

  async #load(): Promise<void> {
    const closed = this.#closed;
    const programs = await ExplainPrograms.loadInThread(this.#source());
    // A reload may have replaced the attached programs meanwhile, or a question may have loaded the programs.
    if (this.#closed === closed && this.#programs === undefined) this.#programs = programs;
    else programs.close();
  }

  #source() {
    return { objectsPath, reuse: this.#options.datapath.mapFds() };
  }

  /**
   * Whether every socket hook is attached. All of them are required, because a question may be about the hook of any address family and
   * system call.
   */
  #sockets(): SocketHooks {
    const { config, held } = this.#options;
    if (!config.socketLb) return { problem: '--socket-lb is off' };
    const hooks = [...held()].filter(({ program }) => program.startsWith('sock_'));
    if (hooks.length === 0) return { problem: 'no socket hook is attached' };
    const missing = hooks.find(({ attached }) => !attached.isAttached());
    return missing === undefined ? 'attached' : { problem: `${missing.program} is not attached to ${missing.target}` };
  }

  /** Names of the devices to which the program is attached in the kernel. */
  *#devicesWith(program: string): IterableIterator<string> {
    for (const each of this.#options.held()) if (each.program === program && each.attached.isAttached()) yield each.target;
  }

  #loaded(): ExplainPrograms {
    this.#programs ??= ExplainPrograms.load(this.#source());
    return this.#programs;
  }

  #host(): ThisHost {
    const { config, services } = this.#options;
    return new ThisHost({
      devices: [...this.#options.devices.all()].map(([, device]) => device),
      devicesWith: (program) => this.#devicesWith(program),
      nodeCidrs: [...services.ranges.all()].flatMap(([, row]) => (row.set === 'node' ? [row.cidr] : [])),
      podCidrs: services.nodes.get(config.node)?.podCIDRs ?? [],
    });
  }
}
