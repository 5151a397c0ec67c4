// SPDX-License-Identifier: Apache-2.0
// The in-situ rows: the run time of each BPF program while real connections use it. The run time comes from the kernel's statistics
// (BPF_ENABLE_STATS). There are 10,000 Services and 10,000 flows, and a round uses each flow once. On a second node the floor programs
// serve the same traffic. On a third node empty programs give the time of the measurement itself, which is subtracted. A test run
// (tc-rows.ts) repeats one packet with warm caches, but here the caches are cold for every packet. main.ts runs the rows.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compile } from './harness.ts';
import { figure } from './report.ts';
import type { Group, Row, Sample } from './row.ts';
import type { Hook } from './situ/floor.ts';
import { type Kind, SituNode, type Traffic } from './situ/node.ts';
import { median } from './stats.ts';

interface SituRow extends Row {
  readonly traffic: Traffic;
  readonly hook: Hook;
}

const row = (name: string, limit: number, { traffic, hook }: Pick<SituRow, 'traffic' | 'hook'>): SituRow => ({
  ...{ name: `in situ: ${name} (${hook})`, yardstick: 'floor in the same place', unit: 'ns', traffic, hook },
  goal: { of: 'ratio', limit, side: 'atMost' },
});

const ESTABLISHED = 1.6;
const PASS = 1.3;
const SOCKET = 1.15;

/** The traffic with which the empty program of a hook is measured. No program on any node translates this traffic. */
const emptyTraffic = (hook: Hook): Traffic => (hook === 'sock_connect4' ? 'socketMiss' : 'direct');

export class SituBench implements Group<SituRow> {
  readonly rows = [
    row('pod to ClusterIP, request', ESTABLISHED, { traffic: 'remote', hook: 'tc_pod_in' }),
    row('reply of a backend on another node', ESTABLISHED, { traffic: 'remote', hook: 'tc_pod_out' }),
    row('reply of a socket of the node', ESTABLISHED, { traffic: 'node', hook: 'tc_pod_out' }),
    row('NodePort from outside, request', ESTABLISHED, { traffic: 'nodePort', hook: 'tc_uplink_in' }),
    row('NodePort from outside, reply of a pod', ESTABLISHED, { traffic: 'nodePort', hook: 'tc_uplink_out' }),
    row('socket of the node to ClusterIP, request', ESTABLISHED, { traffic: 'fromNode', hook: 'tc_uplink_out' }),
    row('not ours, from a pod', PASS, { traffic: 'direct', hook: 'tc_pod_in' }),
    row('not ours, to a pod', PASS, { traffic: 'direct', hook: 'tc_pod_out' }),
    row('not ours, from outside', PASS, { traffic: 'direct', hook: 'tc_uplink_in' }),
    row('not ours, to outside', PASS, { traffic: 'direct', hook: 'tc_uplink_out' }),
    // All packets of a connection except the first are packets of an established flow.
    row('pod to ClusterIP, new connections, SYN to RST', ESTABLISHED, { traffic: 'opened', hook: 'tc_pod_in' }),
    row('connect() to a ClusterIP', SOCKET, { traffic: 'socketHit', hook: 'sock_connect4' }),
    row('connect() to no Service', SOCKET, { traffic: 'socketMiss', hook: 'sock_connect4' }),
  ];
  readonly #nodes = new Map<Kind, SituNode>();
  readonly #empty = new Map<Hook, number[]>();
  #directory = '';

  async open(rows: readonly SituRow[]): Promise<void> {
    this.#directory = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
    const paths = { flows: compile('flows.c', this.#directory), yardstick: compile('yardstick.bpf.c', this.#directory) };
    for (const kind of ['sluice', 'floor', 'empty'] as const) {
      const node = new SituNode(kind);
      this.#nodes.set(kind, node);
      await node.open(paths, new Set(rows.map(({ traffic, hook }) => (kind === 'empty' ? emptyTraffic(hook) : traffic))));
    }
  }

  async round(rows: readonly SituRow[], number: number): Promise<Sample[]> {
    const taken = new Map<string, number>();
    const key = (kind: Kind, traffic: Traffic, hook: Hook): string => `${kind} ${traffic} ${hook}`;
    // The order of the nodes rotates from round to round.
    const kinds = [...this.#nodes.keys()];
    const order = [...kinds.slice(number % kinds.length), ...kinds.slice(0, number % kinds.length)];
    for (const traffic of new Set(rows.flatMap((each) => [each.traffic, emptyTraffic(each.hook)]))) {
      for (const kind of order) {
        const isMeasured = (each: SituRow): boolean => (kind === 'empty' ? emptyTraffic(each.hook) : each.traffic) === traffic;
        const hooks = [...new Set(rows.filter(isMeasured).map(({ hook }) => hook))];
        if (hooks.length === 0) continue;
        const found = await this.#nodes.get(kind)?.round(traffic, hooks);
        for (const hook of hooks) taken.set(key(kind, traffic, hook), found?.[hook].mean ?? NaN);
      }
    }
    return rows.map(({ traffic, hook }) => {
      const empty = taken.get(key('empty', emptyTraffic(hook), hook)) ?? NaN;
      this.#empty.set(hook, [...(this.#empty.get(hook) ?? []), empty]);
      const net = (kind: Kind): number => (taken.get(key(kind, traffic, hook)) ?? NaN) - empty;
      return { ours: net('sluice'), theirs: net('floor') };
    });
  }

  /** The run time of the empty programs in each round. */
  notes(): string {
    const means = [...this.#empty].map(([hook, values]) => `${hook} ${figure(median(values))} ns`);
    return means.length === 0 ? '' : `In situ, the run time of an empty program, which is subtracted from both sides: ${means.join(', ')}.`;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#nodes.values()].map((node) => node.close()));
    if (this.#directory !== '') rmSync(this.#directory, { recursive: true });
  }
}
