// SPDX-License-Identifier: Apache-2.0
// `sluice explain` against the running datapath: connects the read-only programs, the daemon's maps and tables, and this host.
// The first request loads the programs. A request must never write a map of the datapath. Built by agent.ts.
import type { Config } from '../config/schema.ts';
import type { Services } from './services.ts';
import { Explainer } from '../explain/explainer.ts';
import { ThisHost } from '../explain/this-host.ts';
import { type Datapath, objectsPath } from '../bpf/datapath.ts';
import { ExplainPrograms } from '../explain/programs.ts';
import type { LbMaps } from '../maps/types.ts';
import type { Explanation, PacketQuery } from '../model/explanation.ts';

interface ExplainServiceOptions {
  readonly config: Config;
  readonly datapath: Datapath;
  readonly services: Services;
  readonly maps: LbMaps;
}

export class ExplainService {
  readonly #options: ExplainServiceOptions;
  #programs: ExplainPrograms | undefined;

  constructor(options: ExplainServiceOptions) {
    this.#options = options;
  }

  /** One answer for each question. Throws ExitError for a question that is not valid. */
  explain(questions: readonly PacketQuery[]): Explanation[] {
    const { config, datapath, services, maps } = this.#options;
    this.#programs ??= new ExplainPrograms({ objectsPath, reuse: datapath.mapFds() });
    const host = this.#host();
    const owners = services.owners();
    const explainer = new Explainer({
      ...{ programs: this.#programs, maps, hasSocketLb: config.socketLb },
      owners: () => owners,
      ports: (key) => services.desired.get(key),
      originOf: (source) => host.originOf(source),
      deviceOf: (origin, source, iface) => host.deviceOf(origin, source, iface),
      deviceName: (ifindex) => host.deviceName(ifindex),
      isPodInterface: (origin, iface) => (iface === undefined ? origin === 'pod' : host.isPodInterface(iface)),
    });
    return questions.map((question) => explainer.explain(question));
  }

  /**
   * Unloads the programs. Must be called after a reload, because these programs and the newly attached programs may then be of
   * different versions.
   */
  close(): void {
    this.#programs?.close();
    this.#programs = undefined;
  }

  #host(): ThisHost {
    const { config, services } = this.#options;
    return new ThisHost({
      ...{ podInterfaces: config.podInterfaces, uplinks: config.uplinks },
      nodeCidrs: [...services.ranges.all()].flatMap(([, row]) => (row.set === 'node' ? [row.cidr] : [])),
      podCidrs: services.nodes.get(config.node)?.podCIDRs ?? [],
    });
  }
}
