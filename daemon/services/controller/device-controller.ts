// SPDX-License-Identifier: Apache-2.0
// Derives the table of devices that must have tc programs from the table of network devices: pod interfaces by name prefix,
// uplinks by name. It never attaches a program: bpf/ follows the table that this controller writes.
import { isDeepStrictEqual } from 'node:util';
import type { StatusPart } from '../../base/status-part.ts';
import { type DesiredDevice, isPodInterface, type NetworkDevice } from '../../model/device.ts';
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

  /** One message for each uplink that does not exist or cannot be used. */
  problems(): string[] {
    const { uplinks, devices } = this.#options;
    const unusable = [...this.#unusable.values()];
    const present = new Set([...[...devices.all()].map(([, { name }]) => name), ...unusable]);
    return [
      ...unusable.map((name) => `uplink ${name} does not carry Ethernet frames: programs cannot be attached to it`),
      ...uplinks.filter((name) => !present.has(name)).map((name) => `uplink ${name} does not exist: programs are attached when it appears`),
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
