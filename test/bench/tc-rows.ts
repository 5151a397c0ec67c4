// SPDX-License-Identifier: Apache-2.0
// The rows that BPF_PROG_TEST_RUN can take: net ns per packet of tc_pod_in beside the floor, in one process, in turn. Runs
// in a namespace of its own; sends nothing.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BpfMap, openMapById, mapInfo } from '../../daemon/kernel/map.ts';
import { BpfObject } from '../../daemon/kernel/object.ts';
import { testRun } from '../../daemon/kernel/test-run.ts';
import type { DesiredPort } from '../../daemon/model/frontend.ts';
import { Bpffs, devices, enterNamespace, Loaded } from '../kernel/fixture.ts';
import { build, tcpFlags } from '../kernel/packet.ts';

const REPEAT = 1_000_000;
const TC_ACT_OK = 0;
const TC_ACT_REDIRECT = 7;
const FLOW_ROWS = 1 << 20;
const FRONTENDS = 1000;

export interface TcRow {
  readonly name: string;
  readonly yardstick: string;
  readonly goal: number;
  readonly flows: number;
  readonly destination: string;
  /** Packets before the clock runs. */
  readonly warmUp: number;
}

const vip = (n: number): string => `10.96.${Math.floor(n / 250)}.${(n % 250) + 1}`;

export const tcRows: readonly TcRow[] = [
  { name: 'tc ClusterIP from a pod, established, 1 flow', yardstick: 'tc floor', goal: 1.6, flows: 1, destination: vip(7), warmUp: 1000 },
  { name: 'the same, 256,000 flows', yardstick: 'tc floor', goal: 1.1, flows: 256_000, destination: vip(7), warmUp: 600_000 },
  { name: 'new flow', yardstick: 'tc floor', goal: 1.1, flows: 1 << 24, destination: vip(7), warmUp: REPEAT },
  { name: 'not ours, pass', yardstick: 'tc floor, pass', goal: 1.3, flows: 1, destination: '10.200.0.1', warmUp: 1000 },
];

const size = (entries: number): { entries: number; flag: string } => ({ entries, flag: 'bench' });
const sizes = {
  ...{ lb4_frontends: size(131_072), lb6_frontends: size(64), lb_services: size(4096), lb_slots: size(4096) },
  ...{ lb4_backends: size(8192), lb6_backends: size(64), ct4: size(FLOW_ROWS), ct6: size(64) },
};

/** Everything loaded; measure() gives one round of one row. */
export class TcBench {
  readonly #directory = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  readonly #bpffs: Bpffs;
  readonly #loaded: Loaded;
  readonly #yardstick: BpfObject;
  readonly #state: BpfMap;
  readonly #target: BpfMap;

  constructor() {
    const object = join(this.#directory, 'yardstick.bpf.o');
    const multiarch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
    const flags = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Werror', `-I/usr/include/${multiarch}`];
    execFileSync('clang-19', [...flags, '-c', join(import.meta.dirname, 'yardstick.bpf.c'), '-o', object]);
    enterNamespace();
    this.#bpffs = new Bpffs();
    this.#loaded = new Loaded(this.#bpffs, sizes);
    this.#loaded.apply(Array.from({ length: FRONTENDS }, (_, n) => portOf(n)));
    this.#yardstick = new BpfObject(object);
    this.#yardstick.load();
    this.#state = this.#open('bench_state');
    this.#target = this.#open('bench_target');
    this.#fillFloor();
  }

  #open(name: string): BpfMap {
    return new BpfMap(openMapById(mapInfo(this.#yardstick.mapFd(name)).id));
  }

  /** The floor's maps: as many VIPs, two backends. */
  #fillFloor(): void {
    const vips = this.#open('floor_vips');
    const backends = this.#open('floor_backends');
    for (let n = 0; n < FRONTENDS; n += 1) vips.set(Uint8Array.of(...vip(n).split('.').map(Number), 0, 80, 6, 0), new Uint8Array(4));
    for (const n of [0, 1]) {
      const device = n === 0 ? devices.lxc2 : devices.lxc3;
      backends.set(Uint8Array.of(n, 0, 0, 0), Uint8Array.of(10, 244, 1, 2 + n, 0x1f, 0x90, device & 255, device >> 8));
    }
    vips.close();
    backends.close();
  }

  /** Net ns per packet of the program under test and of the floor: each less the empty program's time. */
  measure(row: TcRow): { ours: number; floor: number } {
    const empty = this.#time(row, this.#yardstick.programFd('bench_empty'), TC_ACT_OK);
    const expected = row.destination === '10.200.0.1' ? TC_ACT_OK : TC_ACT_REDIRECT;
    const floor = this.#time(row, this.#yardstick.programFd('bench_floor'), expected) - empty;
    const ours = this.#time(row, this.#loaded.datapath.program('tc_pod_in'), expected) - empty;
    return { ours, floor };
  }

  #time(row: TcRow, program: number, expected: number): number {
    const packet = build({
      protocol: 'TCP',
      source: '10.0.0.0',
      destination: row.destination,
      sourcePort: 1024,
      destinationPort: 80,
      flags: tcpFlags.ACK,
    });
    const state = new Uint8Array(this.#state.info.valueSize);
    new DataView(state.buffer).setUint32(0, row.flows, true);
    state.set(packet.subarray(0, 54), 8);
    this.#state.set(new Uint8Array(4), state);
    this.#target.set(new Uint8Array(4), new Uint8Array(Uint32Array.of(program).buffer));
    const wrapper = this.#yardstick.programFd('bench_wrapper');
    const at = { ifindex: devices.lxc1 };
    testRun(wrapper, packet, { ...at, repeat: row.warmUp });
    const result = testRun(wrapper, packet, { ...at, repeat: REPEAT });
    // A look-up that missed would be measured as fast.
    if (result.verdict !== expected) throw new Error(`${row.name}: verdict ${result.verdict}, expected ${expected}`);
    // The port only: the wrapper leaves the checksums of varied sources wrong.
    const port = ((result.packet[36] ?? 0) << 8) | (result.packet[37] ?? 0);
    if (expected === TC_ACT_REDIRECT && port !== 8080) throw new Error(`${row.name}: not translated`);
    return result.nanoseconds;
  }

  close(): void {
    this.#state.close();
    this.#target.close();
    this.#yardstick.close();
    this.#loaded.datapath.close();
    this.#bpffs.close();
    rmSync(this.#directory, { recursive: true });
  }
}

function portOf(n: number): DesiredPort {
  const backend = (address: string) => ({ address, port: 8080, isUsable: true, isLocal: true, isServing: true });
  return {
    ...{ key: `default/s${n}:web/TCP/IPv4`, namespace: 'default', name: `s${n}`, portName: 'web', protocol: 'TCP', family: 'IPv4' },
    frontends: [{ address: vip(n), family: 'IPv4', port: 80, protocol: 'TCP', scope: 'internal' }],
    backends: [backend('10.244.1.2'), backend('10.244.1.3')],
  };
}
