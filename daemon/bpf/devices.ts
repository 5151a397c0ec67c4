// SPDX-License-Identifier: Apache-2.0
// Programs onto devices, and off them: pod veths by name prefix, uplinks by name, as netlink tells of them. A device that
// had our program from an earlier daemon gets the new one by link update, with no packet between two programs lost. Never
// touches a device that is neither.
import type { Logger } from 'pino';
import { isNotFound } from '../base/errors.ts';
import { attachTcx, hasTcx, linkInfo } from '../kernel/link.ts';
import { type Link, LinkMonitor, links } from '../kernel/rtnetlink.ts';
import { type Attached, ClsactFilter, type Held, HeldLink } from './attached.ts';
import type { Datapath } from './datapath.ts';
import { devicePin, parseDevicePin, type PinDirectory } from './pins.ts';

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

const podHooks: readonly Hook[] = [
  { program: 'tc_pod_in', isIngress: true },
  { program: 'tc_pod_out', isIngress: false },
];
const uplinkHooks: readonly Hook[] = [
  { program: 'tc_uplink_in', isIngress: true },
  { program: 'tc_uplink_out', isIngress: false },
];
const allHooks: readonly Hook[] = [...podHooks, ...uplinkHooks];

export interface DeviceOptions {
  readonly podPrefixes: readonly string[];
  readonly uplinks: readonly string[];
  readonly datapath: Datapath;
  readonly pins: PinDirectory;
  readonly log: Logger;
  /** Asked of the kernel unless told. */
  readonly hasTcx?: boolean;
}

/** A device that we serve: its programs by name. */
interface Device {
  readonly name: string;
  readonly programs: Map<string, Attached>;
}

export class Devices {
  readonly #options: DeviceOptions;
  /** By interface index. */
  readonly #attached = new Map<number, Device>();
  readonly #problems = new Map<string, string>();
  #monitor: LinkMonitor | undefined;
  #hasTcx = true;

  constructor(options: DeviceOptions) {
    this.#options = options;
  }

  /** Attaches to what is there and follows what comes and goes. */
  start(): void {
    this.#hasTcx = this.#options.hasTcx ?? hasTcx();
    // Listen first: a device that comes between the two is seen twice, never missed.
    this.#monitor = new LinkMonitor();
    this.#monitor.listen(
      (event) => (event.kind === 'new' ? this.#onLink(event.link) : this.#onGone(event.ifindex)),
      () => this.sync(),
    );
    this.sync();
  }

  /** Stops following; programs stay on their devices. */
  stop(): void {
    this.#monitor?.close();
    this.#monitor = undefined;
    for (const { attached } of this.held()) attached.close();
    this.#attached.clear();
  }

  /** Looks for devices whose coming or going we were not told of, and again at those that failed. */
  sync(): void {
    const present = links();
    const indices = new Set(present.map((link) => link.ifindex));
    for (const kind of ['links', 'clsact'] as const) {
      for (const name of this.#options.pins.list(kind)) {
        const parsed = parseDevicePin(name);
        if (parsed !== undefined && !indices.has(parsed.ifindex)) this.#options.pins.remove(kind, name);
      }
    }
    for (const ifindex of this.#attached.keys()) if (!indices.has(ifindex)) this.#onGone(ifindex);
    for (const link of present) this.#onLink(link);
  }

  /** Every program on every device. */
  *held(): IterableIterator<Held> {
    for (const { name, programs } of this.#attached.values()) {
      for (const [program, attached] of programs) yield { program, target: name, attached };
    }
  }

  attachments(): Attachment[] {
    const kind = this.#hasTcx ? 'tcx' : 'clsact';
    return [...this.#attached.values()].flatMap(({ name, programs }) =>
      [...programs.keys()].map((program) => ({ program, target: name, kind }) as const),
    );
  }

  /** What keeps a wanted device from being served, one sentence each. */
  problems(): string[] {
    const names = new Set([...this.#attached.values()].map((device) => device.name));
    const missing = this.#options.uplinks.filter((name) => !names.has(name) && !this.#problems.has(name));
    return [...this.#problems.values(), ...missing.map((name) => `uplink ${name} does not exist: its programs wait for it`)];
  }

  #hooksOf(link: Link): readonly Hook[] {
    if (this.#options.uplinks.includes(link.name)) return uplinkHooks;
    const isPod = link.kind === 'veth' && this.#options.podPrefixes.some((prefix) => link.name.startsWith(prefix));
    return isPod ? podHooks : [];
  }

  #onLink(link: Link): void {
    const hooks = this.#hooksOf(link);
    if (this.#attached.get(link.ifindex)?.name === link.name) return;
    try {
      this.#detachOthers(link.ifindex, hooks);
      if (hooks.length === 0) return;
      if (!link.isEthernet) {
        this.#problems.set(link.name, `uplink ${link.name} does not carry Ethernet frames: Sluice cannot serve it`);
        return;
      }
      this.#attachAll(link, hooks);
      this.#problems.delete(link.name);
      this.#options.log.info({ device: link.name, ifindex: link.ifindex, programs: hooks.map((hook) => hook.program) }, 'device attached');
    } catch (err) {
      if (isNotFound(err)) return; // gone again; its own event follows
      const problem = `${link.name}: ${err instanceof Error ? err.message : String(err)}`;
      if (this.#problems.get(link.name) !== problem) this.#options.log.error({ err, device: link.name }, 'device not attached');
      this.#problems.set(link.name, problem);
    }
  }

  #onGone(ifindex: number): void {
    const device = this.#attached.get(ifindex);
    this.#removeHooks(ifindex, allHooks);
    if (device === undefined) return;
    this.#problems.delete(device.name);
    this.#options.log.info({ device: device.name, ifindex }, 'device gone');
  }

  /** A device that was renamed, or changed its role between two daemons, loses what it should not have. */
  #detachOthers(ifindex: number, hooks: readonly Hook[]): void {
    this.#removeHooks(
      ifindex,
      allHooks.filter((hook) => !hooks.includes(hook)),
    );
  }

  /** Takes programs off a device, also those of an earlier daemon, and forgets the device. */
  #removeHooks(ifindex: number, hooks: readonly Hook[]): void {
    const device = this.#attached.get(ifindex);
    this.#attached.delete(ifindex);
    for (const hook of hooks) {
      device?.programs.get(hook.program)?.remove();
      device?.programs.delete(hook.program);
      this.#options.pins.remove('links', devicePin(hook.program, ifindex));
      this.#removeFilter(hook, ifindex);
    }
    // What stays is taken over again by its pin.
    for (const attached of device?.programs.values() ?? []) attached.close();
  }

  #removeFilter(hook: Hook, ifindex: number): void {
    const { pins } = this.#options;
    const name = devicePin(hook.program, ifindex);
    if (pins.has('clsact', name)) new ClsactFilter({ pins, name, ifindex, isIngress: hook.isIngress }).remove();
  }

  /** All hooks of a device, or none. */
  #attachAll(link: Link, hooks: readonly Hook[]): void {
    const programs = new Map<string, Attached>();
    this.#attached.set(link.ifindex, { name: link.name, programs });
    try {
      for (const hook of hooks) programs.set(hook.program, this.#attach(hook, link.ifindex));
    } catch (error) {
      this.#removeHooks(link.ifindex, hooks);
      throw error;
    }
  }

  #attach(hook: Hook, ifindex: number): Attached {
    const { datapath, pins } = this.#options;
    const program = datapath.program(hook.program);
    const { isIngress } = hook;
    const name = devicePin(hook.program, ifindex);
    if (this.#hasTcx) {
      const attach = (fd: number): number => attachTcx(fd, ifindex, isIngress);
      const isOurs = (fd: number): boolean => linkInfo(fd).ifindex === ifindex;
      const link = new HeldLink({ pins, name, attach, isOurs });
      link.attach(program);
      // Of an earlier daemon on a kernel without TCX; never two programs for one packet.
      this.#removeFilter(hook, ifindex);
      return link;
    }
    const filter = new ClsactFilter({ pins, name, ifindex, isIngress });
    filter.replace(program);
    return filter;
  }
}
