// SPDX-License-Identifier: Apache-2.0
// Observes a daemon from another process. It reads the pinned maps and the packets from the API server, and so measures, without
// asking the daemon, what the kernel contains and since when. It runs in the node's network namespace and must never write to a
// map. Each line of JSON on stdin is an order; the answer is one line on stdout. Argument: the pin directory of the daemon.
// proxies.ts starts it.
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { BpfMap, openPin } from '../../../daemon/kernel/map.ts';
import { libc } from '../../../daemon/kernel/native.ts';
import { kernelMaps } from '../../../daemon/maps/kernel-maps.ts';
import type { FrontendMapKey, LbMaps } from '../../../daemon/maps/types.ts';
import { vipOf } from './objects.ts';
import { cpuSeconds } from './process-costs.ts';

export type WitnessOrder =
  /** Order to wait until the maps contain the frontends of this number of Services. The answer is AllProgrammed. */
  | { readonly see: 'all'; readonly services: number; readonly pid: number }
  /** Order to begin to record changes of these Services. */
  | { readonly see: 'changes'; readonly services: number }
  /** Order to stop recording. The answer is Seen. */
  | { readonly see: 'no more' };

export interface AllProgrammed {
  /** Time of the wall clock, in ms since 1970. */
  readonly at: number;
  /** CPU time that the daemon had used until the time `at`. */
  readonly cpuSeconds: number;
  readonly backends: number;
}

/** Times in ms of the monotonic clock, which all processes of the machine share. */
export interface Seen {
  /** Changes of the row of a Service; `address` is that of its last backend after the change. */
  readonly changes: { readonly at: number; readonly vip: string; readonly address: string }[];
  /** Times at which a packet arrived from the API server that is large enough to contain a watch event. */
  readonly arrivals: number[];
}

const LOOK_MS = 5;
/** Interval of reading the maps while changes are recorded. */
const LOOK_OFTEN_MS = 0.1;
const TURN_MS = 5;

const AF_PACKET = 17;
const SOCK_DGRAM = 2;
const ETH_P_IP = 0x0800;
const MSG_DONTWAIT = 0x40;
const TCP = 6;
const API_PORT = 6443;
/** Minimum number of bytes of TCP payload that count as an event. Pings, acknowledgements and window updates are smaller than any event. */
const SMALLEST_EVENT = 500;
/** Number of 4-byte words in a row of lb_services. The first two words are the slot range of traffic policy Cluster. */
const ROW_WORDS = 8;

const [pins = ''] = process.argv.slice(2);
const now = (): number => Number(process.hrtime.bigint()) / 1e6;
const nothing = new Int32Array(new SharedArrayBuffer(4));
const sleep = (ms: number): void => void Atomics.wait(nothing, 0, 0, ms);

/** Waits for the pin of a map. The daemon pins its maps when it loads its programs. */
function waitFor(name: string): BpfMap {
  for (;;) {
    const fd = openPin(join(pins, 'maps', name));
    if (fd !== undefined) return new BpfMap(fd);
    sleep(LOOK_MS);
  }
}

let opened: LbMaps | undefined;
const maps = (): LbMaps => (opened ??= kernelMaps(waitFor));
const keyOf = (n: number): FrontendMapKey => ({ address: vipOf(n), port: 80, protocol: TCP });

function waitForAll({ services, pid }: WitnessOrder & { see: 'all' }): AllProgrammed {
  const { frontends, backends } = maps();
  for (let n = 0; n < services;) {
    if (frontends.IPv4.get(keyOf(n)) === undefined) sleep(LOOK_MS);
    else n += 1;
  }
  const found = { at: Date.now(), cpuSeconds: cpuSeconds(pid) };
  return { ...found, backends: backends.IPv4.rows().length };
}

const networkOrder = (value: number): number => ((value & 255) << 8) | (value >> 8);

/** Returns a function that reports, from a packet socket, whether the API server has sent an event since the previous call. */
function listen(): () => boolean {
  const fd = libc.socket(AF_PACKET, SOCK_DGRAM, networkOrder(ETH_P_IP)) as number;
  if (fd < 0) throw new Error('The packet socket cannot be opened.');
  const packet = new Uint8Array(128);
  const view = new DataView(packet.buffer);
  return () => {
    let isEvent = false;
    while ((libc.recv(fd, packet, packet.length, MSG_DONTWAIT) as number) > 0) {
      const header = (view.getUint8(0) & 15) * 4;
      const payload = view.getUint16(2) - header - (view.getUint8(header + 12) >> 4) * 4;
      if (view.getUint8(9) === TCP && view.getUint16(header) === API_PORT && payload >= SMALLEST_EVENT) isEvent = true;
    }
    return isEvent;
  };
}

class Following {
  readonly seen: Seen = { changes: [], arrivals: [] };
  /** VIPs of the recorded Services by service index. */
  readonly #vips = new Map<number, string>();
  readonly #rows = new Uint32Array(waitFor('lb_services').mmap(false));
  #before: Uint32Array;
  readonly #isEvent = listen();
  #isOver = false;

  constructor(services: number) {
    for (let n = 0; n < services; n += 1) {
      const index = maps().frontends.IPv4.get(keyOf(n))?.service;
      if (index !== undefined) this.#vips.set(index, vipOf(n));
    }
    this.#before = this.#rows.slice();
    this.#run();
  }

  stop(): void {
    this.#isOver = true;
  }

  /** Works in slices of a few milliseconds, and reads orders between two slices. */
  #run(): void {
    const end = now() + TURN_MS;
    for (let last = now(); last < end;) {
      sleep(LOOK_OFTEN_MS);
      // The packet arrived after the previous reading, so the time of that reading is recorded as the earliest possible arrival.
      if (this.#isEvent()) this.seen.arrivals.push(last);
      this.#look();
      last = now();
    }
    if (!this.#isOver) setImmediate(() => this.#run());
  }

  #look(): void {
    for (const [index, vip] of this.#vips) {
      const word = index * ROW_WORDS;
      if (this.#rows[word] === this.#before[word] && this.#rows[word + 1] === this.#before[word + 1]) continue;
      const [base = 0, count = 0] = this.#rows.subarray(word, word + 2);
      this.#before.set([base, count], word);
      const [last = 0] = count === 0 ? [] : maps().slots.read(base + count - 1, 1);
      this.seen.changes.push({ at: now(), vip, address: maps().backends.IPv4.get(last).address });
    }
  }
}

let following: Following | undefined;

function carryOut(order: WitnessOrder): unknown {
  switch (order.see) {
    case 'all':
      return waitForAll(order);
    case 'changes':
      following = new Following(order.services);
      return {};
    case 'no more':
      following?.stop();
      return following?.seen ?? {};
  }
}

createInterface({ input: process.stdin }).on('line', (line) => {
  process.stdout.write(`${JSON.stringify(carryOut(JSON.parse(line) as WitnessOrder))}\n`);
});
