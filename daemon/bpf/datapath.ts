// SPDX-License-Identifier: Apache-2.0
// Loads the compiled objects into the kernel: the verifier checks the programs, and all programs share the pinned maps. Takes
// over the maps that an earlier daemon pinned, and rejects maps of another layout before it changes anything. Attaches nothing.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ExitCode, KernelError, ExitError } from '../base/errors.ts';
import { systemReason } from '../base/reasons.ts';
import { BpfMap, closeFd, duplicate, isDirectory, mapInfo, objectKind, openPin, pin } from '../kernel/map.ts';
import { BpfObject, type MapSpec } from '../kernel/object.ts';
import { initializeConfig, layoutVersion, readPhase, writePhase } from '../maps/datapath-state.ts';
import { Layout } from '../maps/gen/layouts.ts';
import type { Phase } from '../model/phase.ts';
import { type MapSizes, type PinnedSize, sizeProblems } from './map-sizes.ts';
import type { PinDirectory } from './pins.ts';

/** Folder of the compiled objects, which the build makes. */
export const objectsPath = join(import.meta.dirname, '../../datapath/gen');
/** The objects that are loaded at the start. */
const objectNames = ['tc_pod', 'tc_uplink', 'sock'] as const;
/** Loaded when one of its programs is needed. Most nodes have no device for it, and the verifier takes tenths of a second. */
const laterObject = 'tc_l3';
const SMALL = 64; // entries
const zero = new Uint8Array(4);
const perCpuTypes = new Set([5, 6, 10]); // PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH

/** Number of possible CPUs, which is the number of values that a per-CPU map returns. */
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
  /** Second copies of objects, by path. */
  readonly #copies = new Map<string, BpfObject>();
  #layout = Buffer.alloc(0);
  #config: Uint8Array = new Uint8Array();
  /** The pinned maps that load() took over and whose sizes differ from the settings. */
  #pinnedSizes: readonly PinnedSize[] = [];

  constructor(pins: PinDirectory, options: { objectsPath: string; sizes: MapSizes }) {
    this.#pins = pins;
    this.#objectsPath = options.objectsPath;
    this.#sizes = options.sizes;
  }

  /**
   * Loads every program and pins every map. A map that is pinned already keeps its size. When a program cannot be loaded, no new pin
   * remains.
   */
  load(): void {
    this.#layout = this.#readLayout();
    const opened = this.#openPinned();
    this.#pinnedSizes = this.#otherSizes(opened);
    try {
      this.#objects = this.#loadObjects(Object.fromEntries(opened));
    } finally {
      for (const [, fd] of opened) closeFd(fd);
    }
    try {
      // All maps are opened now, so that reading the status later needs no descriptor.
      for (const name of this.mapNames()) this.map(name);
      initializeConfig(this.map('lb_config'));
      this.#config = this.map('lb_config').get(zero) ?? new Uint8Array();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** One message for each size setting that differs from the size of a map that load() took over. */
  sizeProblems(): string[] {
    return sizeProblems(this.#pinnedSizes, this.#pins.path);
  }

  /**
   * Describes the pinned maps, and the size settings from which their sizes differ. Throws ExitError when load() would reject the maps.
   * Changes nothing.
   */
  describePinned(): { readonly summary: string; readonly problems: readonly string[] } {
    const opened = this.#openPinned();
    try {
      const summary = opened.size === 0 ? 'none: maps would be created' : `${opened.size} maps of this layout would be taken over`;
      return { summary, problems: sizeProblems(this.#otherSizes(opened), this.#pins.path) };
    } finally {
      for (const fd of opened.values()) closeFd(fd);
    }
  }

  /**
   * Loads every program with small temporary maps, so that the verifier checks it. Nothing is pinned, and everything is closed on
   * return.
   */
  verify(): string {
    const names: string[] = [];
    for (const name of [...objectNames, laterObject]) {
      const object = this.#open(name);
      try {
        object.load({ sizes: Object.fromEntries(Object.keys(this.#sizes).map((map) => [map, SMALL])) });
        names.push(...object.programNames());
      } finally {
        object.close();
      }
    }
    return `the verifier accepts all ${names.length} programs`;
  }

  /**
   * Loads the objects that are on disk now and keeps the maps. `swap` replaces the programs on the hooks. When `swap` throws, it
   * is called again to restore the former programs. Throws ExitError when the new objects have another layout.
   */
  reload(swap: () => void): void {
    this.#refuseOtherObjects('restart sluiced instead of reloading');
    const before = this.#objects;
    const held = this.mapFds();
    this.#objects = this.#loadObjects(held);
    let unused = before;
    try {
      swap();
    } catch (error) {
      unused = this.#objects;
      this.#objects = before;
      swap();
      throw error;
    } finally {
      for (const object of unused) object.close();
    }
  }

  /** Which connections the programs serve. The phase is in a pinned map, so it outlives the daemon. */
  get phase(): Phase {
    return readPhase(this.map('lb_config'));
  }

  set phase(phase: Phase) {
    writePhase(this.map('lb_config'), phase);
    this.#config = this.map('lb_config').get(zero) ?? new Uint8Array();
  }

  /** A map by name. It is closed with the datapath. */
  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (map === undefined) {
      const cpus = perCpuTypes.has(mapInfo(this.#mapFd(name)).type) ? possibleCpus() : 1;
      map = new BpfMap(duplicate(this.#mapFd(name)), cpus);
      this.#maps.set(name, map);
    }
    return map;
  }

  /** Names of all maps, sorted. */
  mapNames(): string[] {
    return [...new Set(this.#objects.flatMap((object) => object.maps().map(({ name }) => name)))].sort();
  }

  /** Descriptors of all maps by name; valid until close(). */
  mapFds(): Record<string, number> {
    return Object.fromEntries(this.mapNames().map((name) => [name, this.#mapFd(name)]));
  }

  /** Descriptor of a program; valid until reload() or close(). Throws ExitError when it must be loaded and has another layout. */
  program(name: string): number {
    return this.#objectOf(name).programFd(name);
  }

  /**
   * Descriptor of a second copy of a program, with the same maps, made from the objects that are on disk now; valid until closeCopies().
   * Throws ExitError when they have another layout.
   */
  copy(name: string): number {
    const { path } = this.#objectOf(name);
    let object = this.#copies.get(path);
    if (object === undefined) {
      this.#refuseOtherObjects('restart sluiced');
      object = new BpfObject(path);
      this.#copies.set(path, object);
      object.load({ reuse: this.mapFds() });
    }
    return object.programFd(name);
  }

  /** Closes what copy() has loaded. */
  closeCopies(): void {
    for (const object of this.#copies.values()) object.close();
    this.#copies.clear();
  }

  /** Pins the map again when its pin is missing or belongs to another map. Returns what was wrong. */
  repairPin(name: string): string[] {
    const fd = this.#mapFd(name);
    const pinned = openPin(this.#pins.pathOf('maps', name));
    if (pinned !== undefined) {
      const isOurs = mapInfo(pinned).id === mapInfo(fd).id;
      closeFd(pinned);
      if (isOurs) return [];
      this.#pins.remove('maps', name);
    }
    pin(fd, this.#pins.pathOf('maps', name));
    return ['pin was missing'];
  }

  /** Writes the configuration row again when another program changed it. Returns what was wrong. */
  repairConfig(): string[] {
    const map = this.map('lb_config');
    if (Buffer.from(this.#config).equals(map.get(zero) ?? new Uint8Array())) return [];
    map.set(zero, this.#config);
    return ['row was changed'];
  }

  /** Closes our descriptors; what is pinned or attached stays in the kernel. */
  close(): void {
    for (const object of this.#objects) object.close();
    this.#objects = [];
    for (const map of this.#maps.values()) map.close();
    this.#maps.clear();
  }

  /** The loaded object that contains a program. */
  #objectOf(program: string): BpfObject {
    const isIts = (object: BpfObject): boolean => object.programNames().includes(program);
    const loaded = this.#objects.find(isIts);
    if (loaded !== undefined) return loaded;
    const later = this.#open(laterObject);
    try {
      if (!isIts(later)) throw new KernelError({ op: 'find program', object: program, errno: 2, code: 'ENOENT' });
      this.#refuseOtherObjects('restart sluiced');
      later.load({ reuse: this.mapFds() });
    } catch (error) {
      later.close();
      throw error;
    }
    this.#objects = [...this.#objects, later];
    return later;
  }

  /** Throws ExitError when the objects that are on disk now have another layout than the loaded ones. */
  #refuseOtherObjects(remedy: string): void {
    if (this.#layout.equals(this.#readLayout())) return;
    throw new ExitError(ExitCode.layout, `the objects in ${this.#objectsPath} have another map layout than this daemon: ${remedy}`);
  }

  #open(name: string): BpfObject {
    return new BpfObject(join(this.#objectsPath, `${name}.bpf.o`));
  }

  /** The file layout.bpf.o, whose BTF describes every struct that programs and codecs share. */
  #readLayout(): Buffer<ArrayBuffer> {
    const path = join(this.#objectsPath, 'layout.bpf.o');
    try {
      return readFileSync(path);
    } catch (cause) {
      throw new ExitError(ExitCode.layout, `the BPF object ${path} cannot be read: ${systemReason(cause)}`, { cause });
    }
  }

  /**
   * Descriptors of the maps that an earlier daemon pinned. Throws ExitError when a pinned map differs from the map that this
   * version would create.
   */
  #openPinned(): Map<string, number> {
    const opened = new Map<string, number>();
    const object = this.#open(objectNames[0]);
    try {
      for (const spec of object.maps()) {
        const path = this.#pins.pathOf('maps', spec.name);
        if (isDirectory(path)) throw notAMap(path, 'directory');
        const fd = openPin(path);
        if (fd === undefined) continue;
        opened.set(spec.name, fd);
        const kind = objectKind(fd);
        if (kind !== 'map') throw notAMap(path, `pinned ${kind ?? 'object of another kind'}`);
        this.#refuseOther(spec, fd);
      }
      this.#refuseLayout(opened.get('lb_config'));
      return opened;
    } catch (error) {
      for (const fd of opened.values()) closeFd(fd);
      throw error;
    } finally {
      object.close();
    }
  }

  /** Loads the objects with the given maps, and creates and pins the other maps. When it fails, it removes what it created. */
  #loadObjects(given: Readonly<Record<string, number>>): BpfObject[] {
    const sizes = Object.fromEntries(Object.entries(this.#sizes).map(([map, size]) => [map, size.entries]));
    const reuse = { ...given };
    const fresh: string[] = [];
    const objects: BpfObject[] = [];
    try {
      for (const name of objectNames) {
        const object = this.#open(name);
        objects.push(object);
        object.load({ sizes, reuse });
        for (const { name: map } of object.maps()) {
          if (map in reuse) continue;
          reuse[map] = object.mapFd(map);
          fresh.push(map);
        }
      }
      for (const map of fresh) pin(reuse[map] ?? -1, this.#pins.pathOf('maps', map));
      return objects;
    } catch (error) {
      for (const object of objects) object.close();
      for (const map of fresh) this.#pins.remove('maps', map);
      throw error;
    }
  }

  /** Descriptor of a map, owned by its object. */
  #mapFd(name: string): number {
    const object = this.#objects.find((candidate) => candidate.maps().some((map) => map.name === name));
    if (object === undefined) throw new KernelError({ op: 'find map', object: name, errno: 2, code: 'ENOENT' });
    return object.mapFd(name);
  }

  #refuseLayout(configFd: number | undefined): void {
    if (configFd === undefined) return;
    // The caller owns the descriptor, so this BpfMap is never closed.
    const version = layoutVersion(new BpfMap(configFd));
    if (version === 0 || version === Layout.LAYOUT_VERSION) return;
    throw new ExitError(
      ExitCode.layout,
      `the maps in ${this.#pins.path} have layout ${version}, and this version has ${Layout.LAYOUT_VERSION}: run the version that created them, or \`sluice uninstall\` first`,
    );
  }

  #refuseOther(spec: MapSpec, fd: number): void {
    const held = mapInfo(fd);
    // No setting determines the size of this map, so another size means that another version created the map.
    const isResized = this.#sizes[spec.name] === undefined && held.maxEntries !== spec.maxEntries;
    const isSame =
      held.type === spec.type && held.keySize === spec.keySize && held.valueSize === spec.valueSize && held.flags === spec.flags;
    if (isSame && !isResized) return;
    const layoutOf = ({ keySize, valueSize, maxEntries }: Omit<MapSpec, 'name'>): string =>
      `key ${keySize} bytes, value ${valueSize} bytes${isResized ? `, ${maxEntries} entries` : ''}`;
    throw new ExitError(
      ExitCode.layout,
      `the pinned map ${this.#pins.pathOf('maps', spec.name)} has another layout (${layoutOf(held)}; expected: ${layoutOf(spec)}): run the version that created it, or \`sluice uninstall\` first`,
    );
  }

  /** The pinned maps that have another size than the settings ask for. */
  #otherSizes(pinned: ReadonlyMap<string, number>): PinnedSize[] {
    return Object.entries(this.#sizes).flatMap(([map, wanted]) => {
      const fd = pinned.get(map);
      const pinnedEntries = fd === undefined ? wanted.entries : mapInfo(fd).maxEntries;
      return pinnedEntries === wanted.entries ? [] : [{ map, pinnedEntries, wanted }];
    });
  }
}

const notAMap = (path: string, found: string): ExitError =>
  new ExitError(ExitCode.bpffs, `${path} is a ${found}, and not a pinned map: remove it, or name another --pin-path`);
