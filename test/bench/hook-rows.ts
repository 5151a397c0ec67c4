// SPDX-License-Identifier: Apache-2.0
// The socket rows: compare sock_connect4 with a minimal connect hook. BPF_PROG_TEST_RUN does not support cgroup hooks, so a process
// in its own cgroup calls connect() on TCP sockets, and the kernel's run time statistics give the time. The backends have no
// route, so nothing is sent. The statistics are enabled only while that process runs. main.ts runs the rows.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { findCgroup2 } from '../../daemon/kernel/host.ts';
import { attachCgroup, AttachType, programId } from '../../daemon/kernel/link.ts';
import { closeFd } from '../../daemon/kernel/map.ts';
import { sh } from '../support/lab/shell.ts';
import { benchSizes, compile, NO_SERVICE, portOf, vip } from './harness.ts';
import type { Row, Sample } from './row.ts';
import { TestRunGroup } from './test-run-group.ts';

const SERVICES = 1000;
const CALLS = 100_000;
const WARM_UP_CALLS = 2000;

interface HookRow extends Row {
  readonly address: string;
  readonly role: 'hook-same' | 'hook-fresh';
}

const row = (name: string, ask: Pick<HookRow, 'address' | 'role'>): HookRow => ({
  ...{ name, yardstick: 'minimal hook', unit: 'ns', ...ask },
  goal: { of: 'ratio', limit: 1.15, side: 'atMost' },
});

interface Shown {
  readonly run_time_ns?: number;
  readonly run_cnt?: number;
}

export class HookBench extends TestRunGroup<HookRow> {
  readonly rows = [
    row('socket connect hook, hit, one socket', { address: vip(7), role: 'hook-same' }),
    row('socket connect hook, hit, a new socket each time', { address: vip(7), role: 'hook-fresh' }),
    row('socket connect hook, not a Service', { address: NO_SERVICE, role: 'hook-same' }),
  ];
  #cgroup: string | undefined;
  #peer = '';

  open(): void {
    const mount = findCgroup2();
    if (mount === undefined) throw new Error('No cgroup v2 file system is mounted.');
    this.load(benchSizes(SERVICES)).apply(Array.from({ length: SERVICES }, (_, n) => portOf(n, ['10.250.0.2', '10.250.0.3'])));
    this.#peer = compile('peer.c', this.harness.directory);
    this.harness.fillFloor(SERVICES, false);
    const cgroup = join(mount, `sluice-bench-${process.pid}`);
    mkdirSync(cgroup);
    this.#cgroup = cgroup;
  }

  round(rows: readonly HookRow[]): Sample[] {
    const { harness, loaded } = this;
    return rows.map((each) => {
      const empty = this.#time(harness.program('bench_empty_hook'), each);
      const theirs = this.#time(harness.program('bench_floor_hook'), each) - empty;
      return { ours: this.#time(loaded.datapath.program('sock_connect4'), each) - empty, theirs };
    });
  }

  /** Mean run time of the program in ns, which includes the overhead of the kernel. */
  #time(program: number, { role, address }: HookRow): number {
    const cgroup = this.#cgroup ?? '';
    const link = attachCgroup(program, cgroup, AttachType.connect4);
    try {
      const call = (calls: number): Buffer =>
        execFileSync('sh', ['-c', `echo $$ > '${cgroup}/cgroup.procs' && exec "$@"`, 'sh', this.#peer, role, address, '80', String(calls)]);
      const shown = (): Shown => JSON.parse(sh('bpftool', '-j', 'prog', 'show', 'id', String(programId(program)))) as Shown;
      call(WARM_UP_CALLS);
      const before = shown();
      call(CALLS);
      const after = shown();
      const runs = (after.run_cnt ?? 0) - (before.run_cnt ?? 0);
      if (runs !== CALLS) throw new Error(`The hook ran ${runs} times for ${CALLS} calls.`);
      return ((after.run_time_ns ?? 0) - (before.run_time_ns ?? 0)) / runs;
    } finally {
      closeFd(link);
    }
  }

  override close(): void {
    super.close();
    if (this.#cgroup !== undefined) rmdirSync(this.#cgroup);
  }
}
