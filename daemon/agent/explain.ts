// SPDX-License-Identifier: Apache-2.0
// `sluice explain` against the running datapath: connects the read-only programs, the daemon's maps and tables, and this host. The
// programs are loaded by the first request. It must never write what the datapath reads. Built by agent.ts.
import type { Config } from '../config/schema.ts';
import type { ControlPlane } from './services.ts';
import { Explainer } from '../explain/explainer.ts';
import { ThisHost } from '../explain/this-host.ts';
import type { Datapath } from '../bpf/datapath.ts';
import { ExplainPrograms } from '../explain/programs.ts';
import type { LbMaps } from '../maps/types.ts';
import type { Answer, Question } from '../model/explanation.ts';

interface ExplainServiceOptions {
  readonly config: Config;
  readonly datapath: Datapath;
  readonly plane: ControlPlane;
  readonly maps: () => LbMaps;
  readonly objectsPath: string;
}

export class ExplainService {
  readonly #options: ExplainServiceOptions;
  #programs: ExplainPrograms | undefined;

  constructor(options: ExplainServiceOptions) {
    this.#options = options;
  }

  /** One answer for each question. Throws Refusal for a question that is not valid. */
  explain(questions: readonly Question[]): Answer[] {
    const { config, datapath, plane, maps, objectsPath } = this.#options;
    this.#programs ??= new ExplainPrograms({ objectsPath, reuse: datapath.mapFds() });
    const host = this.#host();
    const owners = plane.loop()?.operations.owners() ?? new Map<number, string>();
    const explainer = new Explainer({
      ...{ programs: this.#programs, maps: maps(), hasSocketLb: config.socketLb },
      owners: () => owners,
      ports: (key) => plane.desired.get(key),
      originOf: (source) => host.originOf(source),
      deviceOf: (origin, source, iface) => host.deviceOf(origin, source, iface),
      deviceName: (ifindex) => host.deviceName(ifindex),
      isPodInterface: (origin, iface) => (iface === undefined ? origin === 'pod' : host.isPodInterface(iface)),
    });
    return questions.map((question) => explainer.explain(question));
  }

  /** Unloads the programs. After a reload they would be of another version. */
  close(): void {
    this.#programs?.close();
    this.#programs = undefined;
  }

  #host(): ThisHost {
    const { config, plane } = this.#options;
    return new ThisHost({
      ...{ podInterfaces: config.podInterfaces, uplinks: config.uplinks },
      nodeCidrs: [...plane.host.all()].flatMap(([, row]) => ('set' in row && row.set === 'node' ? [row.cidr] : [])),
      podCidrs: plane.nodes.get(config.node)?.podCIDRs ?? [],
    });
  }
}
