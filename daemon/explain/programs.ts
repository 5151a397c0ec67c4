// SPDX-License-Identifier: Apache-2.0
// The read-only twins of the programs (datapath/explain.bpf.c): loaded over the live maps, or over throw-away ones of their
// own, and run by BPF_PROG_TEST_RUN. Never attached or pinned; they write no map but the record of their decisions.
import { join } from 'node:path';
import { BpfMap, duplicate } from '../kernel/map.ts';
import { BpfObject } from '../kernel/object.ts';
import { testRun, testRunSyscall } from '../kernel/test-run.ts';
import { decoded, encoded } from '../maps/codec.ts';
import { type LbConnect, lbConnectCodec, type LbExplain, lbExplainCodec } from '../maps/gen/layouts.ts';

export type TwinHook = 'pod_in' | 'uplink_in' | 'uplink_out';

export interface TwinRun {
  /** TC_ACT_*. */
  readonly action: number;
  readonly record: LbExplain;
}

export interface SocketRun {
  /** 0: left to tc; 1: the address was rewritten; below 0: -DROP_*. */
  readonly result: number;
  readonly record: LbExplain;
}

const zero = new Uint8Array(4);
const blank: LbExplain = lbExplainCodec.decode(new DataView(new ArrayBuffer(lbExplainCodec.size)));

export interface TwinOptions {
  readonly objectsPath: string;
  /** Descriptors of live maps by name; what is missing is made, and gone with close(). */
  readonly reuse?: Readonly<Record<string, number>>;
  /** max_entries of maps that are made. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Every address has a route: there is no node to ask. */
  readonly assumesRoute?: boolean;
}

export class Twins {
  readonly #object: BpfObject;
  readonly #record: BpfMap;
  readonly #assumesRoute: boolean;
  readonly #opened = new Map<string, BpfMap>();

  /** Loads them. Throws KernelError. */
  constructor(options: TwinOptions) {
    this.#assumesRoute = options.assumesRoute === true;
    this.#object = new BpfObject(join(options.objectsPath, 'explain.bpf.o'));
    try {
      this.#object.load({ reuse: options.reuse ?? {}, sizes: options.sizes ?? {} });
      this.#record = this.map('ex_record');
    } catch (error) {
      this.#object.close();
      throw error;
    }
  }

  /** One of the maps that it runs on. */
  map(name: string): BpfMap {
    let map = this.#opened.get(name);
    if (map === undefined) {
      map = new BpfMap(duplicate(this.#object.mapFd(name)));
      this.#opened.set(name, map);
    }
    return map;
  }

  /** What the program on that hook would do with the frame. The device must exist in this network namespace. */
  run(hook: TwinHook, frame: Uint8Array, ifindex: number): TwinRun {
    this.#clear();
    const { verdict } = testRun(this.#object.programFd(`ex_${hook}`), frame, { ifindex });
    return { action: verdict, record: this.#read() };
  }

  /** What the socket hooks would do. */
  connect(call: LbConnect): SocketRun {
    this.#clear();
    const result = testRunSyscall(this.#object.programFd('ex_connect'), encoded(lbConnectCodec, call));
    return { result, record: this.#read() };
  }

  close(): void {
    for (const map of this.#opened.values()) map.close();
    this.#object.close();
  }

  #clear(): void {
    this.#record.set(zero, encoded(lbExplainCodec, { ...blank, assumeRoute: this.#assumesRoute ? 1 : 0 }));
  }

  #read(): LbExplain {
    return decoded(lbExplainCodec, this.#record.get(zero) ?? new Uint8Array(lbExplainCodec.size));
  }
}
