// SPDX-License-Identifier: Apache-2.0
// The loaded datapath of a kernel test: a private network namespace and bpffs, the loader of the daemon, and real maps that the
// operations of the daemon write. Programs must not be attached. Packets run through BPF_PROG_TEST_RUN. Used by kernel tests and the
// benchmarks.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monotonicNs, netnsCookie } from '../../daemon/kernel/host.ts';
import { testRun, type TestRunResult } from '../../daemon/kernel/test-run.ts';
import { Datapath } from '../../daemon/bpf/datapath.ts';
import type { MapSizes } from '../../daemon/bpf/map-sizes.ts';
import { PinDirectory } from '../../daemon/bpf/pins.ts';
import { dropCounts } from '../../daemon/maps/datapath-state.ts';
import { flow4Codec, flow6Codec } from '../../daemon/maps/gen/layouts.ts';
import { kernelMaps } from '../../daemon/maps/kernel-maps.ts';
import type { LbMaps } from '../../daemon/maps/types.ts';
import { addressText } from '../../daemon/model/address.ts';
import { type DesiredHost, type DesiredPort, type DesiredRange, rangeKey } from '../../daemon/model/frontend.ts';
import { AddressSetOperations } from '../../daemon/services/apply/address-set-operations.ts';
import { HostOperations } from '../../daemon/services/apply/host-operations.ts';
import { LbOperations } from '../../daemon/services/apply/lb-operations.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { newNetns } from '../support/kernel.ts';
import { TC_ACT_REDIRECT, TC_ACT_UNSPEC } from './packet.ts';

export const objectsPath = join(import.meta.dirname, '../../datapath/gen');

const size = (entries: number): { entries: number; flag: string } => ({ entries, flag: 'test' });
export const smallSizes: MapSizes = {
  ...{ lb4_frontends: size(64), lb6_frontends: size(64), lb_services: size(64), lb_slots: size(64) },
  ...{ lb4_backends: size(256), lb6_backends: size(256), ct4: size(8192), ct6: size(8192) },
};

export const ip = (...args: readonly string[]): string => execFileSync('ip', args, { encoding: 'utf8' });

/** A private bpffs. close() unmounts it, which removes all its pins. */
export class Bpffs {
  readonly path: string;
  readonly #directory: string;

  constructor() {
    // The name contains the process id, so that the next Lab (test/support/lab) can remove the directory if this process is killed.
    this.#directory = mkdtempSync(join(tmpdir(), `sl${process.pid}k-`));
    this.path = join(this.#directory, 'bpf');
    mkdirSync(this.path);
    execFileSync('mount', ['-t', 'bpf', 'bpf', this.path]);
  }

  close(): void {
    execFileSync('umount', ['-l', this.path]);
    rmSync(this.#directory, { recursive: true });
  }
}

/** ifindex of the devices of the namespace: pods 10.244.1.N behind lxc1..lxc3, and the uplink eth0 (10.0.0.1). */
export const devices = { lxc1: 0, lxc2: 0, lxc3: 0, eth0: 0 };

/** The frames of packet.ts are for this address. The programs ignore frames that are for another station. */
export const deviceMac = Uint8Array.of(2, 0, 0, 0, 0, 2);

/** Moves this process into a new namespace with devices and routes for FIB lookups. Call it once in a file. */
export function enterNamespace(): void {
  newNetns();
  ip('link', 'set', 'lo', 'up');
  for (const name of Object.keys(devices) as (keyof typeof devices)[]) {
    ip('link', 'add', name, 'address', '02:00:00:00:00:02', 'type', 'veth', 'peer', 'name', `${name}p`);
    ip('link', 'set', name, 'up');
    ip('link', 'set', `${name}p`, 'up');
    const [link] = JSON.parse(ip('-j', 'link', 'show', 'dev', name)) as { ifindex: number }[];
    devices[name] = link?.ifindex ?? 0;
  }
  execFileSync('sh', ['-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding']);
  ip('address', 'add', '10.0.0.1/24', 'dev', 'eth0');
  ip('address', 'add', 'fd00:10::1/64', 'dev', 'eth0', 'nodad');
  for (const n of [1, 2, 3]) {
    ip('route', 'add', `10.244.1.${n}/32`, 'dev', `lxc${n}`);
    ip('-6', 'route', 'add', `fd00:244:1::${n}/128`, 'dev', `lxc${n}`);
  }
}

/** The device of the route to the destination of a frame. Undefined for an address of the node, and for frames that are not IP. */
function deviceTowards(frame: Uint8Array): keyof typeof devices | undefined {
  const type = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0);
  if (type !== 0x0800 && type !== 0x86dd) return undefined;
  const destination = addressText(type === 0x0800 ? frame.slice(30, 34) : frame.slice(38, 54));
  const [, n] = /^(?:10\.244\.1\.|fd00:244:1::)([123])$/.exec(destination) ?? [];
  if (n !== undefined) return `lxc${n}` as keyof typeof devices;
  return ['10.0.0.1', 'fd00:10::1'].includes(destination) ? undefined : 'eth0';
}

/** The node of enterNamespace(), without detection of local pods. */
export const plainHost: DesiredHost = {
  nodeAddresses: { IPv4: '10.0.0.1', IPv6: 'fd00:10::1' },
  podDetection: { IPv4: 'none', IPv6: 'none' },
  masqueradeAll: false,
  snatPorts: [
    { first: 1024, last: 29_999 },
    { first: 61_000, last: 65_535 },
  ],
  hasTc: { pods: true, node: true },
  ...{ forwardMark: 0, removedSources: 0 },
  clusterRange: {},
};

/** The loaded datapath with helpers for tests. */
export class Loaded {
  readonly datapath: Datapath;
  readonly maps: LbMaps;
  readonly clock = new FakeClock();
  readonly #operations: LbOperations;
  readonly #hostOperations: HostOperations;
  readonly #sets: AddressSetOperations;
  #ranges: readonly DesiredRange[] = [];

  constructor(bpffs: Bpffs, sizes: MapSizes = smallSizes, objects = objectsPath) {
    const pins = new PinDirectory(join(bpffs.path, 'sluice'));
    pins.open();
    this.datapath = new Datapath(pins, { objectsPath: objects, sizes });
    this.datapath.load();
    this.maps = kernelMaps((name) => this.datapath.map(name));
    this.#operations = new LbOperations({ maps: this.maps, clock: this.clock });
    this.#operations.restore();
    this.#hostOperations = new HostOperations(this.maps, { netnsCookie: netnsCookie(), now: monotonicNs });
    this.#sets = new AddressSetOperations(this.maps);
    this.applyHost(plainHost);
  }

  /** Replaces the host row and the address sets. */
  applyHost(host: DesiredHost, ranges: readonly DesiredRange[] = []): void {
    for (const range of this.#ranges) this.#sets.delete(rangeKey(range));
    for (const range of ranges) this.#sets.update(range);
    this.#hostOperations.update(host);
    this.#ranges = ranges;
  }

  /** Makes the maps contain exactly these Service ports. */
  apply(rows: readonly DesiredPort[]): void {
    for (const key of this.#operations.owners().values()) if (!rows.some((row) => row.key === key)) this.#operations.delete(key);
    for (const row of rows) this.#operations.update(row);
  }

  /** Returns the keys of Service ports by service index. */
  owners(): ReadonlyMap<number, string> {
    return this.#operations.owners();
  }

  /** Deletes all flows and the affinity of all clients. */
  forgetFlows(): void {
    for (const name of ['ct4', 'ct6', 'lb4_affinity', 'lb6_affinity']) {
      const map = this.datapath.map(name);
      for (const [key] of [...map.entries()]) map.delete(key);
    }
  }

  /** Makes all flows older by this number of units of flow_now() (4.29 s). */
  ageFlows(units: number): void {
    for (const [name, codec] of [
      ['ct4', flow4Codec],
      ['ct6', flow6Codec],
    ] as const) {
      const map = this.datapath.map(name);
      for (const [key, value] of [...map.entries()]) {
        const view = new DataView(value.buffer, value.byteOffset);
        const at = codec.offsets['seen'] ?? 0;
        view.setUint32(at, view.getUint32(at, true) - units, true);
        map.set(key, value);
      }
    }
  }

  run(program: string, packet: Uint8Array, at: { ifindex: number; ingressIfindex?: number; mark?: number }): TestRunResult {
    return testRun(this.datapath.program(program), packet, at);
  }

  /**
   * Runs a packet through the node: the program where it enters, the stack of the node, which here only routes, and the program where it
   * leaves. A packet that changed and left has the verdict TC_ACT_REDIRECT, whether the stack or a program sent it.
   */
  forward(program: string, packet: Uint8Array, at: { ifindex: number; ingressIfindex?: number }): TestRunResult {
    const entered = this.run(program, packet, at);
    if (!program.endsWith('_in') || entered.verdict !== TC_ACT_UNSPEC) return entered;
    const to = deviceTowards(entered.packet);
    if (to === undefined) return entered;
    const out = to === 'eth0' ? 'tc_uplink_out' : 'tc_pod_out';
    const left = this.run(out, entered.packet, { ifindex: devices[to], ingressIfindex: at.ifindex });
    const isChanged = Buffer.compare(left.packet, packet) !== 0;
    return left.verdict === TC_ACT_UNSPEC && isChanged ? { ...left, verdict: TC_ACT_REDIRECT } : left;
  }

  /** Returns the number of dropped packets by reason. */
  drops(): Record<string, number> {
    return Object.fromEntries(dropCounts(this.datapath.map('lb_drops')).map(({ reason, packets }) => [reason, packets]));
  }

  /** Returns the number of dropped bytes by reason. */
  droppedBytes(): Record<string, number> {
    return Object.fromEntries(dropCounts(this.datapath.map('lb_drops')).map(({ reason, bytes }) => [reason, bytes]));
  }
}
