// SPDX-License-Identifier: Apache-2.0
// Derives the table of devices that must have tc programs from the table of network devices: pod interfaces by name prefix,
// uplinks by name. It never attaches a program: bpf/ follows the table that this controller writes.
import { isDeepStrictEqual } from 'node:util';
import type { StatusPart } from '../../base/status-part.ts';
import { type DesiredDevice, isPodInterface, missingPodInterfaces, missingUplink, type NetworkDevice } from '../../model/device.ts';
import type { Observer, Table, TableView } from '../../table/table.ts';

export interface DeviceControllerOptions {
  readonly links: TableView<number, NetworkDevice>;
  /** Written by this controller. The rows of another writer, such as the CNI server, must have other ifindexes. */
  readonly devices: Table<number, DesiredDevice>;
  /** Name prefixes of pod interfaces. */
  readonly podInterfaces: readonly string[];
  /** Device names. */
  readonly uplinks: readonly string[];
}

export class DeviceController implements StatusPart {
  readonly #options: DeviceControllerOptions;
  readonly #markInitialized: () => void;
  /** Names of existing uplinks that cannot have tc programs, by ifindex. */
  readonly #unusable = new Map<number, string>();
  #changes: Observer<number, NetworkDevice> | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(options: DeviceControllerOptions) {
    this.#options = options;
    this.#markInitialized = options.devices.registerSource('device-controller');
  }

  /** Computes the rows now, if the input is complete, and again one tick after each change. */
  start(): void {
    const { links } = this.#options;
    this.#changes = links.observe();
    this.#unsubscribe = links.onChange(() => this.#run());
    this.#run();
  }

  /** Stops following the tables. The rows stay in the tables. */
  stop(): void {
    this.#unsubscribe?.();
    this.#changes?.close();
    this.#changes = undefined;
  }

  /** One message for each uplink that cannot be used. */
  problems(): string[] {
    return [...this.#unusable.values()].map(
      (name) => `uplink ${name} does not carry Ethernet frames, so programs cannot be attached to it: correct --uplinks`,
    );
  }

  /** "1 uplink, 3 pod interfaces". */
  summary(): string {
    if (!this.#options.links.initialized) return 'not listed yet';
    const { uplink = [], pod = [] } = Object.groupBy([...this.#options.devices.all()], ([, { role }]) => role);
    const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;
    return `${counted(uplink.length, 'uplink')}, ${counted(pod.length, 'pod interface')}`;
  }

  /** One message for each uplink, and each prefix of pod interfaces, for which there is no device. */
  missing(): string[] {
    const { links, uplinks, podInterfaces } = this.#options;
    if (!links.initialized) return [];
    const present = [...links.all()].map(([, device]) => device);
    const names = new Set(present.map(({ name }) => name));
    return [
      ...uplinks.filter((name) => !names.has(name)).map(missingUplink),
      ...podInterfaces.filter((prefix) => !present.some((device) => isPodInterface(device, [prefix]))).map(missingPodInterfaces),
    ];
  }

  #run(): void {
    const { links, devices } = this.#options;
    if (!links.initialized) return;
    for (const { key, row } of this.#changes?.take() ?? []) {
      const wanted = row === undefined ? undefined : this.#desired(row);
      this.#unusable.delete(key);
      if (wanted !== undefined && row?.isEthernet === true) put(devices, wanted);
      else devices.delete(key);
      if (wanted?.role === 'uplink' && row?.isEthernet === false) this.#unusable.set(key, wanted.name);
    }
    this.#markInitialized();
  }

  #desired(device: NetworkDevice): DesiredDevice | undefined {
    const { uplinks, podInterfaces } = this.#options;
    const { ifindex, name, appearance } = device;
    if (uplinks.includes(name)) return { ifindex, name, appearance, role: 'uplink' };
    return isPodInterface(device, podInterfaces) ? { ifindex, name, appearance, role: 'pod' } : undefined;
  }
}

function put(devices: Table<number, DesiredDevice>, row: DesiredDevice): void {
  if (!isDeepStrictEqual(devices.get(row.ifindex), row)) devices.upsert(row.ifindex, row);
}
