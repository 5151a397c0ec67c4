// SPDX-License-Identifier: Apache-2.0
// Programs onto devices, and off them: pod veths by name prefix, uplinks by name, as netlink tells of them. A device that
// had our program from an earlier daemon gets the new one by link update, with no packet between two programs lost. Never
// touches a device that is neither.
import type { Logger } from 'pino';
import { isNotFound, isNotSupported } from '../errors.ts';
import { attachClsact, attachTcx, detachClsact, linkInfo, updateLink } from '../kernel/link.ts';
import { closeFd, openPin, pin } from '../kernel/map.ts';
import { type Link, LinkMonitor, links } from '../kernel/rtnetlink.ts';
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
}

export class Devices {
  readonly #options: DeviceOptions;
  /** Attached devices: index -> name and the way each program is held. */
  readonly #attached = new Map<number, { name: string; kinds: Map<string, 'tcx' | 'clsact'> }>();
  readonly #problems = new Map<string, string>();
  #monitor: LinkMonitor | undefined;

  constructor(options: DeviceOptions) {
    this.#options = options;
  }

  /** Attaches to what is there and follows what comes and goes. */
  start(): void {
    // Listen first: a device that comes between the two is seen twice, never missed.
    this.#monitor = new LinkMonitor();
    this.#monitor.listen(
      (event) => (event.kind === 'new' ? this.#onLink(event.link) : this.#onGone(event.ifindex)),
      () => this.#syncAll(),
    );
    this.#syncAll();
  }

  /** Stops following; programs stay on their devices. */
  stop(): void {
    this.#monitor?.close();
    this.#monitor = undefined;
  }

  attachments(): Attachment[] {
    return [...this.#attached.values()].flatMap(({ name, kinds }) =>
      [...kinds].map(([program, kind]) => ({ program, target: name, kind })),
    );
  }

  /** What keeps a wanted device from being served, one sentence each. */
  problems(): string[] {
    const names = new Set([...this.#attached.values()].map((device) => device.name));
    const missing = this.#options.uplinks.filter((name) => !names.has(name) && !this.#problems.has(name));
    return [...this.#problems.values(), ...missing.map((name) => `uplink ${name} does not exist: its programs wait for it`)];
  }

  #syncAll(): void {
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
      const kinds = new Map(hooks.map((hook) => [hook.program, this.#attach(hook, link.ifindex)]));
      this.#attached.set(link.ifindex, { name: link.name, kinds });
      this.#problems.delete(link.name);
      this.#options.log.info({ device: link.name, ifindex: link.ifindex, programs: hooks.map((hook) => hook.program) }, 'device attached');
    } catch (err) {
      if (isNotFound(err)) return; // gone again; its own event follows
      this.#problems.set(link.name, `${link.name}: ${err instanceof Error ? err.message : String(err)}`);
      this.#options.log.error({ err, device: link.name }, 'device not attached');
    }
  }

  #onGone(ifindex: number): void {
    const device = this.#attached.get(ifindex);
    for (const hook of allHooks) {
      this.#options.pins.remove('links', devicePin(hook.program, ifindex));
      this.#options.pins.remove('clsact', devicePin(hook.program, ifindex));
    }
    if (device === undefined) return;
    this.#attached.delete(ifindex);
    this.#problems.delete(device.name);
    this.#options.log.info({ device: device.name, ifindex }, 'device gone');
  }

  /** A device that was renamed, or changed its role between two daemons, loses what it should not have. */
  #detachOthers(ifindex: number, hooks: readonly Hook[]): void {
    const wanted = new Set(hooks.map((hook) => hook.program));
    for (const hook of allHooks) {
      const name = devicePin(hook.program, ifindex);
      if (wanted.has(hook.program)) continue;
      this.#options.pins.remove('links', name);
      if (!this.#options.pins.has('clsact', name)) continue;
      detachClsact(ifindex, hook.isIngress);
      this.#options.pins.remove('clsact', name);
    }
    this.#attached.delete(ifindex);
  }

  #attach(hook: Hook, ifindex: number): 'tcx' | 'clsact' {
    const { datapath, pins } = this.#options;
    const program = datapath.program(hook.program);
    const name = devicePin(hook.program, ifindex);
    if (this.#takeOver(name, { ifindex, program })) return 'tcx';
    try {
      const link = attachTcx(program, ifindex, hook.isIngress);
      try {
        pin(link, pins.pathOf('links', name));
      } finally {
        closeFd(link);
      }
      return 'tcx';
    } catch (error) {
      if (!isNotSupported(error)) throw error;
    }
    attachClsact(program, ifindex, hook.isIngress);
    pins.remove('clsact', name);
    pin(program, pins.pathOf('clsact', name));
    return 'clsact';
  }

  /** Gives an earlier daemon's link our program. False: there is none, or it is dead. */
  #takeOver(name: string, target: { ifindex: number; program: number }): boolean {
    const { pins } = this.#options;
    const link = openPin(pins.pathOf('links', name));
    if (link === undefined) return false;
    try {
      if (linkInfo(link).ifindex !== target.ifindex) {
        pins.remove('links', name);
        return false;
      }
      updateLink(link, target.program);
      return true;
    } finally {
      closeFd(link);
    }
  }
}
