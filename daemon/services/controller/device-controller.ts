// SPDX-License-Identifier: Apache-2.0
// Derives the table of devices that must have tc programs from the devices of the node, their routes and their addresses. All devices are
// judged again after each change, because the role of a device depends on others (desired/device-roles.ts). It never attaches a program:
// bpf/ follows the table that this controller writes.
import { isDeepStrictEqual } from 'node:util';
import type { StatusPart } from '../../base/status-part.ts';
import { families, type Family } from '../../model/address.ts';
import {
  type DesiredDevice,
  type DeviceRoutes,
  type DeviceSettings,
  type DeviceSubnet,
  factsOf,
  hasPodPrefix,
  type JudgedDevice,
  missingPodInterfaces,
  missingUplink,
  type NetworkDevice,
  noUplink,
  otherLinkHeader,
  type RoutingRules,
  type StrictDevice,
} from '../../model/device.ts';
import type { Table, TableView } from '../../table/table.ts';
import { deviceRoles } from '../desired/device-roles.ts';

export interface DeviceControllerOptions {
  readonly links: TableView<number, NetworkDevice>;
  readonly routes: TableView<number, DeviceRoutes>;
  readonly subnets: TableView<number, DeviceSubnet>;
  readonly strictDevices: TableView<number, StrictDevice>;
  readonly rules: TableView<Family, RoutingRules>;
  /** Written by this controller. The rows of another writer, such as the CNI server, must have other ifindexes. */
  readonly devices: Table<number, DesiredDevice>;
  readonly settings: DeviceSettings;
}

export class DeviceController implements StatusPart {
  readonly #options: DeviceControllerOptions;
  readonly #markInitialized: () => void;
  /** Every device by ifindex. */
  #judged: ReadonlyMap<number, JudgedDevice> = new Map();
  #unsubscribes: (() => void)[] = [];

  constructor(options: DeviceControllerOptions) {
    this.#options = options;
    this.#markInitialized = options.devices.registerSource('device-controller');
  }

  /** Computes the rows now, if the input is complete, and again one tick after each change. */
  start(): void {
    this.#unsubscribes = this.#inputs().map((table) => table.onChange(() => this.#run()));
    this.#run();
  }

  /** Stops following the tables. The rows stay in the tables. */
  stop(): void {
    for (const unsubscribe of this.#unsubscribes.splice(0)) unsubscribe();
  }

  /** Every device with its role, in the order of the ifindex. */
  judged(): JudgedDevice[] {
    return [...this.#judged.values()].toSorted((a, b) => a.ifindex - b.ifindex);
  }

  /** Undefined for a device that does not exist. */
  judge(ifindex: number): JudgedDevice | undefined {
    return this.#judged.get(ifindex);
  }

  /** One message for each uplink of the settings that cannot be used. */
  problems(): string[] {
    return this.#named().flatMap(({ name, ifindex, role, kind }) => {
      if (role === 'none') return [`uplink ${name} has no programs, because ${otherLinkHeader}: correct --uplinks`];
      const isBridgeOfPods = kind === 'bridge' && this.#hasPodPort(ifindex);
      return isBridgeOfPods
        ? [`uplink ${name} is a bridge whose ports have programs too, so packets meet two programs: correct --uplinks`]
        : [];
    });
  }

  /** "1 uplink, 3 pod interfaces". */
  summary(): string {
    if (!this.#areInputsListed()) return 'not listed yet';
    const { uplink = [], pod = [] } = Object.groupBy([...this.#options.devices.all()], ([, { role }]) => role);
    const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;
    return `${counted(uplink.length, 'uplink')}, ${counted(pod.length, 'pod interface')}`;
  }

  /** One message for each device of the settings that the node lacks, and one if --uplinks auto finds no device. */
  missing(): string[] {
    const { links, settings, devices } = this.#options;
    if (!this.#areInputsListed()) return [];
    const { podInterfaces, uplinks } = settings;
    const present = [...links.all()].map(([, device]) => device);
    const names = new Set(present.map(({ name }) => name));
    const prefixes = podInterfaces === 'auto' ? [] : podInterfaces;
    const hasUplink = [...devices.all()].some(([, { role }]) => role === 'uplink');
    return [
      ...(uplinks === 'auto' ? (hasUplink ? [] : [noUplink]) : uplinks.filter((name) => !names.has(name)).map(missingUplink)),
      ...prefixes.filter((prefix) => !present.some((device) => hasPodPrefix(device, [prefix]))).map(missingPodInterfaces),
    ];
  }

  /** The existing uplinks that the settings name. */
  #named(): JudgedDevice[] {
    const { uplinks } = this.#options.settings;
    return uplinks === 'auto' ? [] : this.judged().filter(({ name }) => uplinks.includes(name));
  }

  #hasPodPort(bridge: number): boolean {
    return [...this.#options.links.all()].some(([ifindex, { master }]) => master === bridge && this.judge(ifindex)?.role === 'pod');
  }

  #inputs(): Pick<TableView<never, unknown>, 'onChange' | 'initialized'>[] {
    const { links, routes, subnets, strictDevices, rules } = this.#options;
    return [links, routes, subnets, strictDevices, rules];
  }

  #areInputsListed(): boolean {
    return this.#inputs().every(({ initialized }) => initialized);
  }

  #run(): void {
    if (!this.#areInputsListed()) return;
    const { links, routes, subnets, devices, settings } = this.#options;
    const facts = [...links.all()].map(([ifindex, row]) => factsOf(row, routes.get(ifindex), subnets.get(ifindex)));
    this.#judged = new Map(deviceRoles(facts, settings).map((device) => [device.ifindex, device]));
    const wanted = [...this.#judged.values()].flatMap((device) => this.#desired(device));
    const indices = new Set(wanted.map(({ ifindex }) => ifindex));
    // A bridge loses its programs before its first port gets them, so that no packet meets both.
    for (const [ifindex] of [...devices.all()]) if (!indices.has(ifindex)) devices.delete(ifindex);
    for (const row of wanted) if (!isDeepStrictEqual(devices.get(row.ifindex), row)) devices.upsert(row.ifindex, row);
    this.#markInitialized();
  }

  #desired({ ifindex, name, linkHeader, appearance, role }: JudgedDevice): DesiredDevice[] {
    if (role === 'none') return [];
    const { links, rules } = this.#options;
    const master = links.get(links.get(ifindex)?.master ?? 0);
    const bridge = master?.kind === 'bridge' ? master : undefined;
    const routeDevice = bridge?.ifindex ?? ifindex;
    const mapRow = {
      ...{ routeDevice, bridgeAddress: bridge?.address ?? '', isStrict: this.#isStrict(routeDevice) },
      sourceRules: role === 'uplink' ? families.filter((family) => rules.get(family)?.hasSource === true) : [],
    };
    return [{ ifindex, name, linkHeader, appearance, role, mapRow }];
  }

  /**
   * True if the programs can tell which packets source validation drops. They look up the route to the source before the packet is
   * translated, and the kernel does so afterwards: with rules of policy routing the results may differ. A packet may come in by any device of
   * a multipath route, and a look-up names one of them. Routes are not read if the settings name all devices.
   */
  #isStrict(device: number): boolean {
    const { routes, strictDevices, rules, settings } = this.#options;
    const areRoutesKnown = settings.podInterfaces === 'auto' || settings.uplinks === 'auto';
    const isPlain = rules.get('IPv4') === undefined && areRoutesKnown && routes.get(device)?.isMultipath !== true;
    return isPlain && strictDevices.get(device) !== undefined;
  }
}
