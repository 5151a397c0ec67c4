// SPDX-License-Identifier: Apache-2.0
// `sluice explain` against the running datapath: the twins over the daemon's own maps, and what this host knows of a source
// (its addresses, its routes, its devices). Loaded when first asked. It must never write what the datapath reads.
import type { Config } from '../config/schema.ts';
import type { Services } from './services.ts';
import { Explainer } from '../explain/explainer.ts';
import { isNotFound } from '../base/errors.ts';
import { type Link, links, routeTo } from '../kernel/rtnetlink.ts';
import { type Datapath, objectsPath } from '../bpf/datapath.ts';
import { Twins } from '../explain/programs.ts';
import type { LbMaps } from '../maps/types.ts';
import { addressBytes, cidrContains } from '../model/address.ts';
import type { Explanation, Origin, PacketQuery } from '../model/explanation.ts';

const LOOPBACK = 1;

export interface LiveExplainOptions {
  readonly config: Config;
  readonly datapath: Datapath;
  readonly services: Services;
  readonly maps: LbMaps;
}

export class LiveExplain {
  readonly #options: LiveExplainOptions;
  #twins: Twins | undefined;

  constructor(options: LiveExplainOptions) {
    this.#options = options;
  }

  /** One answer for each question. Throws ExitError for one that cannot be asked. */
  explain(questions: readonly PacketQuery[]): Explanation[] {
    const { config, datapath, services, maps } = this.#options;
    this.#twins ??= new Twins({ objectsPath, reuse: datapath.mapFds() });
    const host = new Host(config, services);
    const owners = services.owners();
    const explainer = new Explainer({
      ...{ twins: this.#twins, maps, hasSocketLb: config.socketLb },
      owners: () => owners,
      ports: (key) => services.desired.get(key),
      originOf: (source) => host.originOf(source),
      deviceOf: (origin, source, iface) => host.deviceOf(origin, source, iface),
      deviceName: (ifindex) => host.deviceName(ifindex),
      isPodInterface: (origin, iface) => (iface === undefined ? origin === 'pod' : host.isPodName(iface)),
    });
    return questions.map((question) => explainer.explain(question));
  }

  /** Drops the twins: after a reload they are of another version. */
  close(): void {
    this.#twins?.close();
    this.#twins = undefined;
  }
}

/** The host as it was when a request came. */
class Host {
  readonly #config: Config;
  readonly #services: Services;
  readonly #links: readonly Link[] = links();
  readonly #routes = new Map<string, number>();

  constructor(config: Config, services: Services) {
    this.#config = config;
    this.#services = services;
  }

  deviceName(ifindex: number): string | undefined {
    return ifindex === 0 ? 'the node itself' : this.#links.find((link) => link.ifindex === ifindex)?.name;
  }

  isPodName(name: string): boolean {
    return this.#config.podInterfaces.some((prefix) => name.startsWith(prefix));
  }

  /** The node if it is one of its addresses, a pod if it is behind a pod's interface or in the Node's podCIDRs, else external. */
  originOf(source: string): Origin {
    const { ranges, nodes } = this.#services;
    for (const [, row] of ranges.all()) if (row.set === 'node' && cidrContains(row.cidr, source)) return 'node';
    const device = this.#links.find((link) => link.ifindex === this.#routeOf(source));
    if (device !== undefined && this.isPodName(device.name)) return 'pod';
    return (nodes.get(this.#config.node)?.podCIDRs ?? []).some((cidr) => cidrContains(cidr, source)) ? 'pod' : 'external';
  }

  /** ifindex of the device it comes by; of a node's packet, the uplink. Loopback when there is none. */
  deviceOf(origin: Origin, source: string, iface: string | undefined): number {
    const named = (name: string | undefined): number | undefined => this.#links.find((link) => link.name === name)?.ifindex;
    const known = iface === undefined ? undefined : named(iface);
    if (known !== undefined) return known;
    const routed = origin === 'node' ? 0 : this.#routeOf(source);
    if (routed !== 0) return routed;
    return named(this.#config.uplinks[0]) ?? LOOPBACK;
  }

  #routeOf(address: string): number {
    let device = this.#routes.get(address);
    if (device === undefined) {
      device = routeDevice(address);
      this.#routes.set(address, device);
    }
    return device;
  }
}

/** 0 when there is no route. */
function routeDevice(address: string): number {
  try {
    return routeTo(addressBytes(address)).ifindex;
  } catch (error) {
    if (isNotFound(error) || (error as { code?: string }).code === 'ENETUNREACH' || (error as { code?: string }).code === 'EHOSTUNREACH')
      return 0;
    throw error;
  }
}
