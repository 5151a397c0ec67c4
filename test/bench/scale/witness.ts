// SPDX-License-Identifier: Apache-2.0
// A process beside a daemon that looks at its pinned maps, and at what comes to the node from the API server: it knows what
// the kernel holds, and since when, whatever the daemon says of itself. A line of JSON on stdin is an order, the next line on
// stdout the answer. Runs in the node's namespace. Argument: the daemon's pin directory.
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { BpfMap, openPin } from '../../../daemon/kernel/map.ts';
import { libc } from '../../../daemon/kernel/native.ts';
import { kernelMaps } from '../../../daemon/maps/kernel-maps.ts';
import type { FrontendMapKey, LbMaps } from '../../../daemon/maps/types.ts';
import { vipOf } from './objects.ts';
import { cpuSeconds } from './process-costs.ts';

export type Sight =
  /** Waits until each of so many Services has its frontend in the kernel. Answers FullAt. */
  | { readonly see: 'all'; readonly services: number; readonly pid: number }
  /** Follows these Services from now on. */
  | { readonly see: 'changes'; readonly services: number }
  /** Answers with what was seen since: Seen. */
  | { readonly see: 'no more' };

export interface FullAt {
  /** Wall clock, ms since 1970. */
  readonly at: number;
  /** What the daemon had used by then. */
  readonly cpuSeconds: number;
  readonly backends: number;
}

/** Times in ms of the monotonic clock that all processes of a machine share. */
export interface Seen {
  /** A Service's row led to something else, and to which address at last. */
  readonly changes: { readonly at: number; readonly vip: string; readonly address: string }[];
  /** The API server sent more than a few bytes. */
  readonly arrivals: number[];
}

const LOOK_MS = 5;
/** While it follows changes. */
const LOOK_OFTEN_MS = 0.1;
const TURN_MS = 5;

const AF_PACKET = 17;
const SOCK_DGRAM = 2;
const ETH_P_IP = 0x0800;
const MSG_DONTWAIT = 0x40;
const TCP = 6;
const API_PORT = 6443;
/** Of TCP payload. What is smaller is no event: pings, acknowledgements, window updates. */
const SMALLEST_EVENT = 500;
/** Words of four bytes in a row of lb_services; the first two are the run of policy Cluster. */
const ROW_WORDS = 8;

const [pins = ''] = process.argv.slice(2);
const now = (): number => Number(process.hrtime.bigint()) / 1e6;
const nothing = new Int32Array(new SharedArrayBuffer(4));
const sleep = (ms: number): void => void Atomics.wait(nothing, 0, 0, ms);

/** The daemon pins its maps when it loads its programs. */
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

function waitForAll({ services, pid }: Sight & { see: 'all' }): FullAt {
  const { frontends, backends } = maps();
  for (let n = 0; n < services;) {
    if (frontends.IPv4.get(keyOf(n)) === undefined) sleep(LOOK_MS);
    else n += 1;
  }
  const found = { at: Date.now(), cpuSeconds: cpuSeconds(pid) };
  return { ...found, backends: backends.IPv4.rows().length };
}

const networkOrder = (value: number): number => ((value & 255) << 8) | (value >> 8);

/** Whether the API server has sent an event since it was last asked, by a packet socket. */
function listen(): () => boolean {
  const fd = libc.socket(AF_PACKET, SOCK_DGRAM, networkOrder(ETH_P_IP)) as number;
  if (fd < 0) throw new Error('cannot have a packet socket');
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
  /** VIP by service index. */
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

  /** Orders are heard between turns. */
  #run(): void {
    const end = now() + TURN_MS;
    for (let last = now(); last < end;) {
      sleep(LOOK_OFTEN_MS);
      // It came after the last look: told as early as it can have been.
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

function obey(sight: Sight): unknown {
  switch (sight.see) {
    case 'all':
      return waitForAll(sight);
    case 'changes':
      following = new Following(sight.services);
      return {};
    case 'no more':
      following?.stop();
      return following?.seen ?? {};
  }
}

createInterface({ input: process.stdin }).on('line', (line) => {
  process.stdout.write(`${JSON.stringify(obey(JSON.parse(line) as Sight))}\n`);
});
