// SPDX-License-Identifier: Apache-2.0
// The compiled objects in the kernel: programs verified, maps shared by all of them and pinned. Takes over the maps that
// an earlier daemon pinned, and refuses, before it touches anything, those that it would not understand. Attaches nothing.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ExitCode, KernelError, Refusal } from '../errors.ts';
import { BpfMap, closeFd, openPin, pin } from '../kernel/map.ts';
import { BpfObject, mapInfo, type MapSpec } from '../kernel/object.ts';
import { initializeConfig, layoutVersion } from '../maps/datapath-state.ts';
import { Layout } from '../maps/gen/layouts.ts';
import type { PinDirectory } from './pins.ts';

const objectNames = ['tc_pod', 'tc_uplink', 'sock'];
const perCpuTypes = new Set([5, 6, 10]); // PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH

/** Which flag sets a map's size, for messages. */
export interface MapSizes {
  readonly [map: string]: { readonly entries: number; readonly flag: string };
}

/** Highest possible CPU plus one: per-CPU values come in that number. */
function possibleCpus(): number {
  const ranges = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim().split(/[,-]/);
  return Number(ranges.at(-1)) + 1;
}

export class Datapath {
  readonly #pins: PinDirectory;
  readonly #objectsPath: string;
  readonly #sizes: MapSizes;
  readonly #maps = new Map<string, BpfMap>();
  #objects: BpfObject[] = [];

  constructor(pins: PinDirectory, options: { objectsPath: string; sizes: MapSizes }) {
    this.#pins = pins;
    this.#objectsPath = options.objectsPath;
    this.#sizes = options.sizes;
  }

  /** Loads every program. Afterwards all maps are pinned; on failure nothing is left behind that was not there before. */
  load(): void {
    this.#objects = objectNames.map((name) => new BpfObject(join(this.#objectsPath, `${name}.bpf.o`)));
    const reuse: Record<string, number> = {};
    const opened: number[] = [];
    try {
      for (const spec of this.#objects[0]?.maps() ?? []) {
        const fd = openPin(this.#pins.pathOf('maps', spec.name));
        if (fd === undefined) continue;
        opened.push(fd);
        this.#refuseOther(spec, fd);
        reuse[spec.name] = fd;
      }
      this.#refuseLayout(reuse['lb_config']);
      this.#loadObjects(reuse);
    } catch (error) {
      this.close();
      throw error;
    } finally {
      for (const fd of opened) closeFd(fd);
    }
  }

  #loadObjects(reuse: Record<string, number>): void {
    const sizes = Object.fromEntries(Object.entries(this.#sizes).map(([map, size]) => [map, size.entries]));
    const fresh: string[] = [];
    for (const object of this.#objects) {
      object.load({ sizes, reuse });
      for (const { name } of object.maps()) {
        if (name in reuse) continue;
        reuse[name] = object.mapFd(name);
        fresh.push(name);
      }
    }
    try {
      for (const name of fresh) pin(reuse[name] ?? -1, this.#pins.pathOf('maps', name));
      initializeConfig(this.map('lb_config'));
    } catch (error) {
      for (const name of fresh) this.#pins.remove('maps', name);
      throw error;
    }
  }

  /** An open map, closed with the datapath. */
  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (map === undefined) {
      const fd = openPin(this.#pins.pathOf('maps', name));
      if (fd === undefined) throw new KernelError({ op: 'open map', object: name, errno: 2, code: 'ENOENT' });
      map = new BpfMap(fd, perCpuTypes.has(mapInfo(fd).type) ? possibleCpus() : 1);
      this.#maps.set(name, map);
    }
    return map;
  }

  mapNames(): string[] {
    return this.#pins.list('maps');
  }

  /** Descriptor of a loaded program, valid until close(). */
  program(name: string): number {
    const object = this.#objects.find((candidate) => candidate.programNames().includes(name));
    if (object === undefined) throw new KernelError({ op: 'find program', object: name, errno: 2, code: 'ENOENT' });
    return object.programFd(name);
  }

  /** Closes our descriptors; what is pinned or attached goes on. */
  close(): void {
    for (const object of this.#objects) object.close();
    this.#objects = [];
    for (const map of this.#maps.values()) map.close();
    this.#maps.clear();
  }

  #refuseLayout(configFd: number | undefined): void {
    if (configFd === undefined) return;
    // The descriptor is the caller's: this BpfMap is never closed.
    const version = layoutVersion(new BpfMap(configFd));
    if (version === 0 || version === Layout.LAYOUT_VERSION) return;
    throw new Refusal(
      ExitCode.kernel,
      `the maps in ${this.#pins.path} have layout ${version}, this version has ${Layout.LAYOUT_VERSION}: run the version that made them, or \`sluice uninstall\` first`,
    );
  }

  #refuseOther(spec: MapSpec, fd: number): void {
    const held = mapInfo(fd);
    const wantedEntries = this.#sizes[spec.name]?.entries ?? spec.maxEntries;
    const isSame =
      held.type === spec.type && held.keySize === spec.keySize && held.valueSize === spec.valueSize && held.flags === spec.flags;
    if (!isSame) {
      throw new Refusal(
        ExitCode.kernel,
        `the pinned map ${this.#pins.pathOf('maps', spec.name)} has another layout (key ${held.keySize}, value ${held.valueSize} bytes; wanted ${spec.keySize}, ${spec.valueSize}): run the version that made it, or \`sluice uninstall\` first`,
      );
    }
    if (held.maxEntries !== wantedEntries) {
      const flag = this.#sizes[spec.name]?.flag ?? 'its size';
      throw new Refusal(
        ExitCode.config,
        `the pinned map ${spec.name} holds ${held.maxEntries} entries, --${flag} wants ${wantedEntries}: give the old size, or \`sluice uninstall\` first`,
      );
    }
  }
}
