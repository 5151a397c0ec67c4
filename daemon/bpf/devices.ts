// SPDX-License-Identifier: Apache-2.0
// Attaches tc programs to the devices of the desired table, and detaches them. On a device that has a program of an earlier
// daemon, a link update replaces the program, so that no packet passes without a program. Before the programs are attached, the map
// lb_devices gets what they must know about the device. It must never change a device that is not in the table. Called by the Reconciler;
// guard.ts repairs the attachments.
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { hasTcx } from '../kernel/link.ts';
import { kernelDevices } from '../maps/kernel-maps.ts';
import { DeviceFlag, type DeviceMap, type DeviceMapValue } from '../maps/types.ts';
import type { DesiredDevice, DeviceRow } from '../model/device.ts';
import type { Operations } from '../table/reconciler.ts';
import type { TableView } from '../table/table.ts';
import type { Held } from './attached.ts';
import type { Datapath } from './datapath.ts';
import { devicePin, parseDevicePin, type PinDirectory } from './pins.ts';
import { TcHook } from './tc-hook.ts';

export interface Attachment {
  readonly program: string;
  /** Device name, or cgroup directory. */
  readonly target: string;
  readonly kind: 'tcx' | 'clsact' | 'cgroup';
}

interface Hook {
  readonly program: string;
  readonly isIngress: boolean;
}

const hooks = {
  pod: [
    { program: 'tc_pod_in', isIngress: true },
    { program: 'tc_pod_out', isIngress: false },
  ],
  uplink: [
    { program: 'tc_uplink_in', isIngress: true },
    { program: 'tc_uplink_out', isIngress: false },
  ],
  uplinkWithoutHeader: [
    { program: 'tc_l3_in', isIngress: true },
    { program: 'tc_l3_out', isIngress: false },
  ],
} as const satisfies Record<string, readonly Hook[]>;

/** The programs of a device, by its role and its link-layer header. */
export const hooksOf = ({ role, linkHeader }: Pick<DesiredDevice, 'role' | 'linkHeader'>): readonly Hook[] =>
  role === 'pod' ? hooks.pod : linkHeader === 'none' ? hooks.uplinkWithoutHeader : hooks.uplink;

export const allHooks: readonly Hook[] = Object.values(hooks).flat();

export interface DeviceOptions {
  readonly datapath: Datapath;
  readonly pins: PinDirectory;
  readonly log: Logger;
  /** Whether the kernel has TCX. Default: the kernel is queried. */
  readonly hasTcx?: boolean;
}

/** A device with the programs that are attached to it, by program name. */
interface Device {
  readonly name: string;
  readonly hooks: readonly Hook[];
  readonly appearance: number;
  readonly programs: Map<string, TcHook>;
}

export class DeviceOperations implements Operations<number, DesiredDevice> {
  readonly #options: DeviceOptions;
  /** Devices by interface index. */
  readonly #attached = new Map<number, Device>();
  /** The desired row of lb_devices of each device. */
  readonly #rows = new Map<number, DeviceMapValue>();
  #hasTcx = true;

  constructor(options: DeviceOptions) {
    this.#options = options;
  }

  restore(): void {
    this.#hasTcx = this.#options.hasTcx ?? hasTcx();
  }

  update(row: DesiredDevice): void {
    const { ifindex, name, role } = row;
    const before = this.#attached.get(ifindex);
    const mapRow = mapValueOf(row.mapRow);
    if (!isDeepStrictEqual(this.#rows.get(ifindex) ?? this.#map.get(ifindex), mapRow)) this.#map.set(ifindex, mapRow);
    this.#rows.set(ifindex, mapRow);
    const wanted = hooksOf(row);
    if (before?.name === name && before.hooks === wanted && before.appearance === row.appearance) return;
    // The device may have had another role, also for an earlier daemon. This call removes the programs of that role.
    this.#removeHooks(
      ifindex,
      allHooks.filter((hook) => !wanted.includes(hook)),
    );
    this.#attachAll(row, wanted);
    this.#options.log.info({ device: name, ifindex, role, programs: wanted.map(({ program }) => program) }, 'device attached');
  }

  delete(ifindex: number): void {
    const device = this.#attached.get(ifindex);
    this.#removeHooks(ifindex, allHooks);
    this.#map.delete(ifindex);
    this.#rows.delete(ifindex);
    if (device !== undefined) this.#options.log.info({ device: device.name, ifindex }, 'device detached');
  }

  /** Removes what an earlier daemon left on devices that are no longer desired. */
  prune(rows: TableView<number, DesiredDevice>): boolean {
    for (const kind of ['links', 'clsact'] as const) {
      for (const name of this.#options.pins.list(kind)) {
        const ifindex = parseDevicePin(name)?.ifindex;
        if (ifindex !== undefined && rows.get(ifindex) === undefined) this.delete(ifindex);
      }
    }
    for (const ifindex of this.#map.keys()) if (rows.get(ifindex) === undefined) this.#map.delete(ifindex);
    return true;
  }

  *repair(): Generator<string[], void> {
    // guard.ts repairs pins and attachments. It repairs them in the order that is required when the whole bpffs was lost.
    for (const [ifindex, row] of new Map(this.#rows)) {
      if (this.#rows.get(ifindex) !== row || isDeepStrictEqual(this.#map.get(ifindex), row)) continue;
      this.#map.set(ifindex, row);
      yield [`${this.#map.name}: the row of device ${ifindex} was missing or changed`];
    }
  }

  freed(): number {
    return 0;
  }

  freesAt(): undefined {
    return undefined;
  }

  /** Closes our descriptors; the programs stay on their devices. */
  close(): void {
    for (const { attached } of this.held()) attached.close();
    this.#attached.clear();
  }

  /** Every program on every device. */
  *held(): IterableIterator<Held> {
    for (const { name, programs } of this.#attached.values()) {
      for (const [program, attached] of programs) yield { program, target: name, attached };
    }
  }

  attachments(): Attachment[] {
    return [...this.#attached.values()].flatMap(({ name, programs }) =>
      [...programs].map(([program, { kind }]) => ({ program, target: name, kind })),
    );
  }

  /** Detaches programs from a device, also those of an earlier daemon, and forgets the device. A failure leaves no descriptor open. */
  #removeHooks(ifindex: number, unwanted: readonly Hook[]): void {
    const device = this.#attached.get(ifindex);
    this.#attached.delete(ifindex);
    const failures: unknown[] = [];
    for (const hook of unwanted) {
      try {
        (device?.programs.get(hook.program) ?? this.#hook(hook, ifindex)).remove();
      } catch (error) {
        failures.push(error);
      }
      device?.programs.delete(hook.program);
    }
    // The other programs stay attached. The next attempt of #attachAll() takes them over again by their pins.
    for (const attached of device?.programs.values() ?? []) attached.close();
    if (failures.length > 0) throw failures[0];
  }

  /** Attaches all programs of a device, or none. */
  #attachAll({ ifindex, name, appearance }: DesiredDevice, wanted: readonly Hook[]): void {
    const programs = new Map<string, TcHook>();
    this.#attached.set(ifindex, { name, hooks: wanted, appearance, programs });
    try {
      for (const hook of wanted) programs.set(hook.program, this.#attach(hook, ifindex));
    } catch (error) {
      try {
        this.#removeHooks(ifindex, wanted);
      } catch {
        // Ignored: the first error is the cause and is thrown below. The next attempt takes over the pins that remain.
      }
      throw error;
    }
  }

  get #map(): DeviceMap {
    return kernelDevices((name) => this.#options.datapath.map(name));
  }

  #attach(hook: Hook, ifindex: number): TcHook {
    const attached = this.#hook(hook, ifindex);
    try {
      attached.attach(this.#options.datapath.program(hook.program));
    } catch (error) {
      attached.close();
      throw error;
    }
    return attached;
  }

  #hook({ program, isIngress }: Hook, ifindex: number): TcHook {
    return new TcHook({ pins: this.#options.pins, name: devicePin(program, ifindex), ifindex, isIngress, hasTcx: this.#hasTcx });
  }
}

const NO_ADDRESS = new Uint8Array(6);

const mapValueOf = ({ routeDevice, bridgeAddress, isStrict, sourceRules }: DeviceRow): DeviceMapValue => ({
  routeDev: routeDevice,
  bridgeMac: bridgeAddress === '' ? NO_ADDRESS : Uint8Array.fromHex(bridgeAddress.replaceAll(':', '')),
  flags:
    (bridgeAddress === '' ? 0 : DeviceFlag.bridgePort) |
    (isStrict ? DeviceFlag.strictSource : 0) |
    sourceRules.reduce((flags, family) => flags | DeviceFlag.sourceRules[family], 0),
});
