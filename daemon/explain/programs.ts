// SPDX-License-Identifier: Apache-2.0
// Read-only copies of the programs (datapath/explain.bpf.c), run with BPF_PROG_TEST_RUN over the live maps or over temporary maps of
// their own. They must never be attached or pinned, and they write no map except the record of their decisions (ex_record).
// Used by the explain service of the daemon and by dry runs.
import { join } from 'node:path';
import { BpfMap, duplicate } from '../kernel/map.ts';
import { BpfObject } from '../kernel/object.ts';
import { testRun, testRunSyscall } from '../kernel/test-run.ts';
import { decoded, encoded } from '../maps/codec.ts';
import { type LbConnect, lbConnectCodec, type LbExplain, lbExplainCodec } from '../maps/gen/layouts.ts';

export type PacketHook = 'pod_in' | 'uplink_in' | 'uplink_out';

interface PacketRun {
  /** TC_ACT_*. */
  readonly action: number;
  readonly record: LbExplain;
}

export interface ConnectRun {
  /** Result of the socket hooks. 0: the call is left to the tc programs. 1: the address was rewritten. Below 0: -DROP_*. */
  readonly result: number;
  readonly record: LbExplain;
}

interface ExplainProgramsOptions {
  readonly objectsPath: string;
  /** Descriptors of live maps by name. Maps that are not named are created, and freed by close(). */
  readonly reuse?: Readonly<Record<string, number>>;
  /** max_entries by map name, for the maps that are created. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Treats every address as routed, because a dry run does not use the routes of this host. */
  readonly assumesRoute?: boolean;
}

const pathOf = ({ objectsPath }: ExplainProgramsOptions): string => join(objectsPath, 'explain.bpf.o');

const zero = new Uint8Array(4);
const blank: LbExplain = lbExplainCodec.decode(new DataView(new ArrayBuffer(lbExplainCodec.size)));

export class ExplainPrograms {
  readonly #object: BpfObject;
  readonly #record: BpfMap;
  readonly #assumesRoute: boolean;
  readonly #opened = new Map<string, BpfMap>();

  private constructor(object: BpfObject, options: ExplainProgramsOptions) {
    this.#assumesRoute = options.assumesRoute === true;
    this.#object = object;
    this.#record = this.map('ex_record');
  }

  /** Loads the programs, which takes some tenths of a second. Throws KernelError. */
  static load(options: ExplainProgramsOptions): ExplainPrograms {
    const object = new BpfObject(pathOf(options));
    try {
      object.load(options);
      return new ExplainPrograms(object, options);
    } catch (error) {
      object.close();
      throw error;
    }
  }

  /** Like load(), in another thread. */
  static async loadInThread(options: ExplainProgramsOptions): Promise<ExplainPrograms> {
    const object = new BpfObject(pathOf(options));
    try {
      await object.loadInThread(options);
      return new ExplainPrograms(object, options);
    } catch (error) {
      object.close();
      throw error;
    }
  }

  /** One of the maps that the programs use. */
  map(name: string): BpfMap {
    let map = this.#opened.get(name);
    if (map === undefined) {
      map = new BpfMap(duplicate(this.#object.mapFd(name)));
      this.#opened.set(name, map);
    }
    return map;
  }

  /** Runs the copy of tc_<hook> on a frame. The device must exist in this network namespace. */
  run(hook: PacketHook, frame: Uint8Array, ifindex: number): PacketRun {
    this.#clear();
    const { verdict } = testRun(this.#object.programFd(`ex_${hook}`), frame, { ifindex });
    return { action: verdict, record: this.#read() };
  }

  /** Runs the copy of the socket hooks on a connect(). */
  connect(call: LbConnect): ConnectRun {
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
