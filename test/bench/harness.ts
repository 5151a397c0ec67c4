// SPDX-License-Identifier: Apache-2.0
// The harness of the rows that use BPF_PROG_TEST_RUN. It moves this process into its own network namespace, compiles and loads
// yardstick.bpf.c, and measures the time of a program in ns per packet. The wrapper program in yardstick.bpf.c calls the measured
// program. The harness must never send a packet.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BpfMap, duplicate } from '../../daemon/kernel/map.ts';
import { BpfObject } from '../../daemon/kernel/object.ts';
import { testRun } from '../../daemon/kernel/test-run.ts';
import type { MapSizes } from '../../daemon/bpf/map-sizes.ts';
import type { DesiredPort } from '../../daemon/model/frontend.ts';
import { backendRow, desiredRow, frontendRow } from '../support/builders.ts';
import { devices, enterNamespace } from '../kernel/fixture.ts';
import { build, TC_ACT_SHOT, tcpFlags } from '../kernel/packet.ts';

let hasEntered = false;

const size = (entries: number): { entries: number; flag: string } => ({ entries, flag: 'bench' });

/** Returns the map sizes for this number of Services with two backends each. */
export const benchSizes = (services: number): MapSizes => ({
  ...{ lb4_frontends: size(131_072), lb6_frontends: size(64), lb_services: size(services + 64), lb_slots: size(services + 64) },
  ...{ lb4_backends: size(2 * services + 64), lb6_backends: size(64), ct4: size(1 << 20), ct6: size(64) },
});

/** The n-th VIP, counted from 10.128.0.0 as in the wrapper program of yardstick.bpf.c. */
export const vip = (n: number): string => `10.${128 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;

export const NO_SERVICE = '10.200.0.1';

/** The row of Service n with port 80 and these backends on port 8080. */
export const portOf = (n: number, backends: readonly string[]): DesiredPort =>
  desiredRow(
    `s${n}`,
    [frontendRow(vip(n))],
    backends.map((address) => backendRow(address, { isLocal: true })),
  );

export interface Run {
  /** Address of the first destination. `flows` is the number of different sources, `vips` the number of destinations. */
  readonly destination: string;
  readonly flows: number;
  readonly vips: number;
  /** Number of packets that are sent before the measurement. */
  readonly warmUp: number;
  readonly repeat: number;
  /** Whether the destination is a frontend, so that the packet gets the port of a backend. */
  readonly isTranslated: boolean;
}

const bytesOf = (address: string): number[] => address.split('.').map(Number);

/** Key and value of floor_vips. `backend`: row of the first of its two backends in floor_backends. */
export const floorVip = ({ address, port, backend }: { address: string; port: number; backend: number }): [Uint8Array, Uint8Array] => [
  Uint8Array.of(...bytesOf(address), port >> 8, port & 255, 6, 0),
  Uint8Array.of(backend, 0, 0, 0),
];

/** Key and value of floor_backends. `device`: interface index; 0 for a backend on the node. */
export const floorBackend = (
  row: number,
  { address, port, device }: { address: string; port: number; device: number },
): [Uint8Array, Uint8Array] => [
  Uint8Array.of(row, 0, 0, 0),
  Uint8Array.of(...bytesOf(address), port >> 8, port & 255, device & 255, device >> 8),
];

/** Compiles a C file of this folder and returns the path of the output in `directory`. The caller removes the directory. */
export function compile(name: string, directory: string): string {
  const isBpf = name.endsWith('.bpf.c');
  const output = join(directory, name.replace(/\.c$/, isBpf ? '.o' : ''));
  const multiarch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const flags = isBpf ? ['-g', '-target', 'bpf', '-mcpu=v3', `-I/usr/include/${multiarch}`, '-c'] : [];
  execFileSync('clang-19', ['-O2', '-Wall', '-Wextra', '-Werror', ...flags, join(import.meta.dirname, name), '-o', output]);
  return output;
}

export class Harness {
  readonly directory = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  readonly #yardstick: BpfObject;
  readonly #state: BpfMap;
  readonly #target: BpfMap;

  constructor() {
    if (!hasEntered) enterNamespace();
    hasEntered = true;
    this.#yardstick = this.#load();
    this.#state = this.openMap('bench_state');
    this.#target = this.openMap('bench_target');
  }

  /** The directory is removed if this fails. */
  #load(): BpfObject {
    try {
      const object = new BpfObject(compile('yardstick.bpf.c', this.directory));
      object.load();
      return object;
    } catch (error) {
      rmSync(this.directory, { recursive: true });
      throw error;
    }
  }

  program(name: string): number {
    return this.#yardstick.programFd(name);
  }

  /** Opens a map of yardstick.bpf.c. The caller must close it. */
  openMap(name: string): BpfMap {
    return new BpfMap(duplicate(this.#yardstick.mapFd(name)));
  }

  /**
   * Fills the maps of the floor programs: this number of VIPs, all with the same two backends. The backends are behind lxc2 and
   * lxc3, or without a route.
   */
  fillFloor(vips: number, hasRoute = true): void {
    const table = this.openMap('floor_vips');
    const backends = this.openMap('floor_backends');
    const network = hasRoute ? '10.244.1' : '10.250.0';
    for (let n = 0; n < vips; n += 1) table.set(...floorVip({ address: vip(n), port: 80, backend: 0 }));
    for (const [n, device] of [devices.lxc2, devices.lxc3].entries())
      backends.set(...floorBackend(n, { address: `${network}.${2 + n}`, port: 8080, device }));
    table.close();
    backends.close();
  }

  /** Net time in ns per packet of each program. The time of the empty program is measured first and subtracted. */
  net(programs: readonly number[], run: Run): number[] {
    const empty = this.#time(this.program('bench_empty'), { ...run, isTranslated: false });
    return programs.map((program) => this.#time(program, run) - empty);
  }

  #time(program: number, run: Run): number {
    const { destination, flows, vips, warmUp, repeat, isTranslated } = run;
    const ports = { sourcePort: 1024, destinationPort: 80 };
    const packet = build({ protocol: 'TCP', source: '10.0.0.0', destination, ...ports, flags: tcpFlags.ACK });
    const state = new Uint8Array(this.#state.info.valueSize);
    const view = new DataView(state.buffer);
    view.setUint32(0, flows, true);
    view.setUint32(8, vips, true);
    state.set(packet.subarray(0, 54), 12);
    this.#state.set(new Uint8Array(4), state);
    this.#target.set(new Uint8Array(4), new Uint8Array(Uint32Array.of(program).buffer));
    const wrapper = this.program('bench_wrapper');
    const at = { ifindex: devices.lxc1 };
    if (warmUp > 0) testRun(wrapper, packet, { ...at, repeat: warmUp });
    const result = testRun(wrapper, packet, { ...at, repeat });
    // A failed lookup must not be measured, because it takes less time than a successful one. Only the port of the packet is checked. The
    // checksum is wrong, because the wrapper varies the source without correcting it.
    const port = ((result.packet[36] ?? 0) << 8) | (result.packet[37] ?? 0);
    if (result.verdict === TC_ACT_SHOT) throw new Error(`Packet to ${destination}: it was dropped.`);
    if (port !== (isTranslated ? 8080 : 80)) throw new Error(`Packet to ${destination}: the destination port is ${port}.`);
    return result.nanoseconds;
  }

  close(): void {
    this.#state.close();
    this.#target.close();
    this.#yardstick.close();
    rmSync(this.directory, { recursive: true });
  }
}
