// SPDX-License-Identifier: Apache-2.0
// What the bench says: the table, RESULTS.md around it, and the comparison with an earlier run. Pure text.
import type { Result } from './row.ts';
import { type Interval, isRegression } from './stats.ts';

const ratioText = ({ low, median: middle, high }: Interval): string => `${middle.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)})`;

/** As many digits as a noisy machine can mean. */
const figure = (value: number): string =>
  Math.abs(value) < 100 ? value.toFixed(1).replace(/\.0$/, '') : Math.round(value).toLocaleString('en');

function goalText({ goal, unit }: Result): string {
  return `${goal.side === 'atMost' ? '<=' : '>='} ${goal.limit}${goal.of === 'ratio' ? '' : ` ${unit}`}`;
}

export function table(results: readonly Result[]): string {
  const lines = results.map((each) => {
    const peer = each.peer === undefined ? '' : `${figure(each.peer.value)} (${each.peer.ratio.toFixed(2)})`;
    const cells = [each.row, each.yardstick, each.unit, figure(each.ours), figure(each.theirs), ratioText(each.ratio)];
    return `| ${[...cells, goalText(each), each.verdict, peer].join(' | ')} |`;
  });
  const head = '| row | yardstick | unit | ours | yardstick | ratio (95 %) | goal | verdict | nftables (ratio) |';
  return [head, '|---|---|---|---|---|---|---|---|---|', ...lines].join('\n');
}

/** Where and how a run was made. */
export interface Circumstances {
  readonly date: string;
  readonly machine: string;
  readonly versions: string;
  readonly commit: string;
  readonly rounds: number;
  readonly load: string;
  readonly minutes: number;
}

export function report(results: readonly Result[], at: Circumstances): string {
  return `# Bench results

Made by \`npm run bench\` on ${at.date}: ${at.machine},
${at.versions}, commit ${at.commit}; ${at.rounds} interleaved rounds (memory: 5) in ${at.minutes.toFixed(1)} minutes, load average at the start ${at.load}.

${table(results)}

Met: the 95 % interval's upper end meets the goal (where more is better: its lower end); missed: the other end does not; else undecided. Ratios
are per round; the interval is that of their median, by bootstrap. The machine is shared and noisy: ratios and regressions only.

- **tc rows**: net ns per packet: BPF_PROG_TEST_RUN of a wrapper that restores the headers, steps through flows and VIPs and calls the program,
  less the same with an empty program. The floor (yardstick.bpf.c) is the smallest tc program that does the job for IPv4 TCP: VIP hash, two LRU
  rows a flow, DNAT, checksum helpers, redirect; same map sizes, 1,000 VIPs, 1,048,576 flow rows. No NIC, no driver. The rows "in turn" are the
  program beside itself: every packet to the next of 100,000 Services (or of 1,024), against every packet to one of them.
- **socket rows**: the program's own run time (BPF_ENABLE_STATS) in connect() calls of TCP sockets to a backend that no route leads to, so that
  nothing leaves, less an empty program. The minimal hook: VIP hash, backend array, rewrite, and the row that getpeername() needs. The goal is
  Cilium's figure from another machine (perf.md), without such a row.
- **veth rows**: four nodes of namespaces at once, asked in turn: direct routing with nothing attached, socket translation, tc only, and nftables
  rules in kube-proxy's style; 10,000 Services each, the last one asked. One connection at a time (connect is what is timed; then a byte each way,
  reset), client on the first CPU, servers on the last. UDP: one flow of 64 bytes, counted where it arrives.
- **SNAT row**: whole ns of a test run of tc_uplink_in, for a new flow that no source port is left for.
- **memory**: the daemon, ready and idle with one Service and the maps of default size, beside a Node.js that does nothing.

A regression, for \`npm run bench -- --compare test/bench/results.json\`: the intervals do not overlap and the median ratio got worse by more
than 10 %. \`--only REGEX\` takes some rows, \`--rounds N\` fewer rounds, \`--no-write\` keeps the last results.
`;
}

/** Each takes minutes. */
export const SCALE_ROUNDS = 3;

export function scaleReport(results: readonly Result[], at: Circumstances): string {
  return `## At scale

Made by \`npm run bench -- --scale\` on ${at.date}: ${at.machine},
${at.versions}, commit ${at.commit}; rounds: ${Math.min(at.rounds, SCALE_ROUNDS)}, in ${at.minutes.toFixed(1)} minutes, load average at the start ${at.load}. So few rounds give an
interval from the smallest to the largest, no more.

${table(results)}

10,000 Services with an EndpointSlice of 10 endpoints each come from a real kube-apiserver with its etcd, on the same machine, to sluiced with maps
of default size and to the real kube-proxy in nftables mode with default settings; each in a node's namespace, one after the other, from nothing.

- **cold start**: from exec on. The kernel has all: sluiced's map of frontends has every VIP, which another process looks up; of kube-proxy the time of
  the first sync by its metric, and then its set has the last VIP. CPU is user and system time from exec until then, with that of the children (nft).
  The last list page: sluiced's log line, kube-proxy's "Caches are synced".
- **one slice changed**: one endpoint of one slice moves, 200 times, one at a time. When the kernel has it is what another process sees that reads
  sluiced's maps 10,000 times a second; the watch event has come when its first packet is at the node's eth0. For kube-proxy
  it is the histogram network_programming_duration_seconds of its own (from the write on; bounds of 0.25, 0.5, 1 s and on): to read its rules takes longer than a change.
  "network programming, mean" is that metric of both.
- **churn**: 100 slices a second change all their endpoints, for 60 s. The last third stands beside the first: nothing may grow. Delay of the event loop
  and garbage collection are nodejs_eventloop_lag_p99_seconds (less its timer's own 10 ms) and nodejs_gc_duration_seconds of /metrics.
- **beyond**: 50,000 Services of 10 endpoints from the double of the API server, beside five times the figure for 10,000 of the real one, whose
  objects are larger by their managedFields.
`;
}

/** RESULTS.md: what each command replaces, and the section of figures before some change, which is kept by hand. */
export interface Parts {
  readonly main: string;
  readonly scale: string;
  readonly earlier: string;
}

export function partsOf(text: string): Parts {
  const [main = '', ...others] = text.split(/\n(?=## )/);
  const part = (title: string): string => others.find((each) => each.startsWith(`## ${title}`)) ?? '';
  return { main: `${main.trimEnd()}\n`, scale: part('At scale'), earlier: part('Earlier') };
}

export const textOf = ({ main, scale, earlier }: Parts): string =>
  `${[main, scale, earlier]
    .filter((part) => part !== '')
    .map((part) => part.trimEnd())
    .join('\n\n')}\n`;

/** Prints a line a row; the number of those that got worse. */
export function compare(results: readonly Result[], before: readonly Result[]): number {
  let worse = 0;
  for (const now of results) {
    const then = before.find((each) => each.row === now.row);
    if (then === undefined) {
      console.log(`new    ${now.row}: ${ratioText(now.ratio)}`);
      continue;
    }
    const isWorse = isRegression(then.ratio, now.ratio, now.goal.side);
    worse += Number(isWorse);
    console.log(`${isWorse ? 'WORSE' : 'ok   '}  ${now.row}: ${ratioText(then.ratio)} -> ${ratioText(now.ratio)}`);
  }
  return worse;
}
