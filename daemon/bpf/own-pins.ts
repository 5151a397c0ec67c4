// SPDX-License-Identifier: Apache-2.0
// Decides whether a pin in our pin directory is ours. The name of a pin does not prove it: another program may have pinned its own map
// under a name that Sluice uses. Reads only, and says for each foreign pin what it is. Called by uninstall.ts.
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { failureText } from '../base/reasons.ts';
import { clsactProgram } from '../kernel/clsact.ts';
import { linkInfo, programFdById, programId, programName } from '../kernel/link.ts';
import { BpfMap, closeFd, mapInfo, objectKind, openPin } from '../kernel/map.ts';
import { BpfObject, type MapSpec } from '../kernel/object.ts';
import { layoutVersion } from '../maps/datapath-state.ts';
import { Layout } from '../maps/gen/layouts.ts';
import { objectsPath } from './datapath.ts';
import { allHooks } from './devices.ts';
import { parseDevicePin, type PinDirectory, type PinKind } from './pins.ts';
import { socketHooks } from './sockets.ts';

const devicePrograms: ReadonlySet<string> = new Set(allHooks.map(({ program }) => program));
const socketPrograms: ReadonlySet<string> = new Set(socketHooks.map(({ program }) => program));

export class OwnPins {
  readonly #pins: PinDirectory;
  /** Undefined if the pinned maps have the layout of another version: then only their names can be compared. */
  readonly #specs: ReadonlyMap<string, MapSpec | undefined>;

  constructor(pins: PinDirectory) {
    this.#pins = pins;
    const specs = specsOfMaps();
    const isOtherVersion = this.#hasOtherLayout(specs.get('lb_config'));
    this.#specs = new Map([...specs].map(([name, spec]) => [name, isOtherVersion ? undefined : spec]));
  }

  /** Why the pin is not ours; undefined if it is ours. */
  foreign(kind: PinKind, name: string): string | undefined {
    const path = this.#pins.pathOf(kind, name);
    try {
      const stat = lstatSync(path);
      if (stat.isDirectory()) return 'it is a directory, which Sluice does not create';
      if (stat.uid !== lstatSync(join(this.#pins.path, kind)).uid) return `it belongs to the user ${stat.uid}`;
      return this.#withPin(path, (fd) => this.#foreignObject(fd, { kind, name }));
    } catch (error) {
      return `it cannot be examined: ${failureText(error)}`;
    }
  }

  /**
   * Whether the clsact filter of the pin runs a program of Sluice. The filter may have been replaced by another program since it was
   * pinned.
   */
  hasOwnFilter(name: string): boolean {
    const device = parseDevicePin(name);
    if (device === undefined) return false;
    const filter = clsactProgram(device.ifindex, device.program.endsWith('_in'));
    if (filter === undefined) return false;
    const pinned = this.#withPin(this.#pins.pathOf('clsact', name), programId);
    return filter === pinned || nameOfProgram(filter) === device.program;
  }

  #foreignObject(fd: number, { kind, name }: { kind: PinKind; name: string }): string | undefined {
    const wanted = { maps: 'map', links: 'link', clsact: 'program' } as const;
    const found = objectKind(fd);
    if (found !== wanted[kind]) return `it is a pinned ${found ?? 'object of an unknown kind'} and not a ${wanted[kind]}`;
    if (kind === 'maps') return this.#foreignMap(fd, name);
    const device = parseDevicePin(name)?.program;
    const known = device === undefined ? (kind === 'links' && socketPrograms.has(name) ? name : undefined) : device;
    if (known === undefined || !(devicePrograms.has(known) || socketPrograms.has(known))) return 'Sluice does not use this name';
    const program = kind === 'clsact' ? programName(fd) : nameOfProgram(linkInfo(fd).programId);
    return program === known ? undefined : `it runs the program ${program}, which is not from Sluice`;
  }

  #foreignMap(fd: number, name: string): string | undefined {
    if (!this.#specs.has(name)) return 'Sluice does not use this name';
    const held = mapInfo(fd);
    if (held.name !== name) return `it is the map ${held.name} of another program`;
    const spec = this.#specs.get(name);
    const isSame = spec === undefined || (held.type === spec.type && held.keySize === spec.keySize && held.valueSize === spec.valueSize);
    return isSame ? undefined : `it has another layout than the map of this name (key ${held.keySize}, value ${held.valueSize} bytes)`;
  }

  /** Whether lb_config is the map of another version of Sluice. */
  #hasOtherLayout(spec: MapSpec | undefined): boolean {
    const fd = openPin(this.#pins.pathOf('maps', 'lb_config'));
    if (fd === undefined || spec === undefined) return false;
    try {
      if (objectKind(fd) !== 'map' || mapInfo(fd).name !== 'lb_config') return false;
      if (mapInfo(fd).valueSize !== spec.valueSize) return true;
      // The descriptor is closed below, so this BpfMap is never closed.
      return ![0, Layout.LAYOUT_VERSION].includes(layoutVersion(new BpfMap(fd)));
    } finally {
      closeFd(fd);
    }
  }

  /** The result of `read` for the pinned object; undefined if the pin does not exist any more. */
  #withPin<T>(path: string, read: (fd: number) => T): T | undefined {
    const fd = openPin(path);
    if (fd === undefined) return undefined;
    try {
      return read(fd);
    } finally {
      closeFd(fd);
    }
  }
}

/** The maps that this version creates, by name. */
function specsOfMaps(): Map<string, MapSpec> {
  const object = new BpfObject(join(objectsPath, 'tc_pod.bpf.o'));
  try {
    return new Map(object.maps().map((spec) => [spec.name, spec]));
  } finally {
    object.close();
  }
}

/** Name of a loaded program. */
function nameOfProgram(id: number): string {
  const fd = programFdById(id);
  try {
    return programName(fd);
  } finally {
    closeFd(fd);
  }
}
