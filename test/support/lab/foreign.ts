// SPDX-License-Identifier: Apache-2.0
// Programs of another owner on tc hooks, from foreign.bpf.c: as TCX links and as clsact filters. Used by kernel and netns tests, which call
// the functions in the network namespace of the device.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attachTcxAt } from '../../../daemon/kernel/link.ts';
import { BpfMap, closeFd, duplicate, pin } from '../../../daemon/kernel/map.ts';
import { BpfObject } from '../../../daemon/kernel/object.ts';
import { sh } from './shell.ts';

type ForeignName = 'foreign_count' | 'foreign_no_udp' | 'foreign_note' | 'foreign_answers';

/** Path of the object file that this process has compiled. */
let compiled: string | undefined;

function compile(): string {
  const directory = mkdtempSync(join(tmpdir(), `sl${process.pid}f-`));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const output = join(directory, 'foreign.bpf.o');
  const multiarch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const flags = ['-O2', '-g', '-Wall', '-Wextra', '-Werror', '-target', 'bpf', '-mcpu=v3', `-I/usr/include/${multiarch}`];
  sh('clang-19', ...flags, '-c', join(import.meta.dirname, 'foreign.bpf.c'), '-o', output);
  return output;
}

/** A loaded set of the programs. Each set has maps of its own. close() detaches what is attached as a link; filters stay. */
export class Foreign {
  readonly #object: BpfObject;
  readonly #links: number[] = [];

  constructor() {
    this.#object = new BpfObject((compiled ??= compile()));
    this.#object.load();
  }

  program(name: ForeignName): number {
    return this.#object.programFd(name);
  }

  /** Attaches a program to a TCX hook. Returns a function that detaches it. */
  attach(name: ForeignName, at: { ifindex: number; isIngress: boolean; place: 'first' | 'last' }): () => void {
    const link = attachTcxAt(this.program(name), at);
    this.#links.push(link);
    return () => {
      closeFd(link);
      this.#links.splice(this.#links.indexOf(link), 1);
    };
  }

  /** Adds a clsact filter with `tc`, as another agent would. `bpffs` is a directory for the pin that `tc` needs. */
  filter(name: ForeignName, { dev, direction, priority = 1, bpffs }: FilterOptions): void {
    const path = join(bpffs, `${name}_${dev}_${direction}`);
    pin(this.program(name), path);
    try {
      sh('tc', 'qdisc', 'replace', 'dev', dev, 'clsact');
      sh('tc', 'filter', 'add', 'dev', dev, direction, 'prio', String(priority), 'bpf', 'da', 'object-pinned', path);
    } finally {
      rmSync(path);
    }
  }

  /** Number of datagrams that foreign_count has seen. */
  seen(): number {
    const map = new BpfMap(duplicate(this.#object.mapFd('foreign_seen')));
    try {
      const value = map.get(new Uint8Array(4)) ?? new Uint8Array(8);
      return Number(new DataView(value.buffer, value.byteOffset).getBigUint64(0, true));
    } finally {
      map.close();
    }
  }

  close(): void {
    for (const link of this.#links.splice(0)) closeFd(link);
    this.#object.close();
  }
}

interface FilterOptions {
  readonly dev: string;
  readonly direction: 'ingress' | 'egress';
  readonly priority?: number;
  readonly bpffs: string;
}
