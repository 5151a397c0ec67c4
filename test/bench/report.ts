// SPDX-License-Identifier: Apache-2.0
// Writes the table of results, the text of RESULTS.md around it, and the comparison with an earlier run. Pure except for
// compare(), which prints. main.ts calls it.
import { NOT_SEEN, type Result } from './row.ts';
import { type Interval, isRegression } from './stats.ts';

const ratioText = ({ low, median: middle, high }: Interval): string =>
  Number.isNaN(middle) ? '' : `${middle.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)})`;

/** Figures are rounded, because the machine is noisy and more digits would mean nothing. */
export const figure = (value: number): string =>
  Number.isNaN(value) ? '' : Math.abs(value) < 100 ? value.toFixed(1).replace(/\.0$/, '') : Math.round(value).toLocaleString('en');

function goalText({ goal, unit }: Result): string {
  return `${goal.side === 'atMost' ? '<=' : '>='} ${goal.limit}${goal.of === 'ratio' ? '' : ` ${unit}`}`;
}

export function table(results: readonly Result[]): string {
  const lines = results.map((each) => {
    const peer = each.peer === undefined ? '' : `${figure(each.peer.value)} (${each.peer.ratio.toFixed(2)})`;
    const cells = [each.row, each.yardstick, each.unit, figure(each.ours), figure(each.theirs), ratioText(each.ratio)];
    return `| ${[...cells, goalText(each), each.verdict, peer].join(' | ')} |`;
  });
  const head = '| row | yardstick | unit | Sluice | yardstick | ratio (95 %) | goal | verdict | nftables (ratio) |';
  return [head, '|---|---|---|---|---|---|---|---|---|', ...lines].join('\n');
}

/** The conditions of a run. The report lists them. */
export interface Circumstances {
  readonly date: string;
  readonly machine: string;
  readonly versions: string;
  readonly commit: string;
  readonly rounds: number;
  readonly load: string;
  readonly minutes: number;
}

/** The report of the main command. `notes` are tables of the groups; they follow the table of rows. */
export function report(results: readonly Result[], notes: string, at: Circumstances): string {
  return `# Bench results

Made by \`npm run bench\` on ${at.date}, commit ${at.commit}, in ${at.minutes.toFixed(1)} minutes. Each row has ${at.rounds} interleaved rounds, the memory row 5.

- Machine: ${at.machine}. The load average at the start was ${at.load}.
- Versions: ${at.versions}.

${table(results)}

${notes}

The ratio of a row is measured in each round, and its 95 % interval is that of the median ratio, by bootstrap. The verdict compares the interval
with the goal: met if the whole interval meets the goal, missed if no part of it does, otherwise undecided. Where the goal has a unit, it applies
to the figure of Sluice instead of the ratio. The machine is shared and noisy, so only ratios and regressions are meaningful.

- **tc rows**: net ns per packet of a tc program. BPF_PROG_TEST_RUN runs a wrapper that restores the headers, steps through flows and VIPs and
  calls the program. The time of the same run with an empty program is subtracted. The yardstick "tc floor" (yardstick.bpf.c) is the smallest tc
  program that load balances IPv4 TCP: a hash lookup of the VIP, two LRU rows per flow, NAT, checksum helpers, redirect. It has maps of the same
  size, with 1,000 VIPs and 1,048,576 flow rows. No NIC and no driver is involved. In the rows "in turn" the program is its own yardstick: each
  packet goes to the next of 100,000 (or 1,024) Services, compared with all packets to one Service. A test run repeats the program with warm caches
  and a trained branch predictor. It is good for regressions; the rows "in situ" say what a packet costs.
- **SNAT row**: ns of a test run of tc_uplink_in for a new flow when no source port is free, including the time of the test run itself. The
  yardstick is a packet to no Service.
- **socket rows**: the run time of the program (BPF_ENABLE_STATS) in connect() calls of TCP sockets, less that of an empty program. The backends
  have no route, so no packet is sent. The yardstick "minimal hook" does a hash lookup of the VIP, reads the backend from an array, rewrites the
  address, and writes the row that getpeername() needs.
- **in situ**: the mean run time of a program (BPF_ENABLE_STATS) during real connections, less that of an empty program in the same place. Three
  nodes made of network namespaces serve the same traffic, with 10,000 Services and maps of default size: Sluice, the floor programs on the same
  hooks, and empty programs. For each kind of traffic a client holds 10,000 TCP connections and uses each once in a round: a byte each way, one
  connection at a time. So every packet belongs to another flow, and the caches are as cold as between real packets. The floor programs also restore
  the source of replies. The row "new connections" counts all packets of 2,000 connections from SYN to RST. The time does not contain the
  redirect itself, which follows the program. NodePorts have the external policy Local, because the floor does not masquerade.
- **veth rows**: four nodes made of network namespaces run at the same time and are measured in turn: one without any program, socket
  translation, tc programs only, and nftables rules in the style of kube-proxy. Each has 10,000 Services, and the client uses the last one. On each
  node the client connects to the VIP and directly to its two backends in turn, 64 connections each, so that both meet the same servers, programs and
  state of the machine. It makes one TCP connection at a time: connect() is timed, then each side sends a byte and the client resets the connection.
  connect() has two modes, whose difference is larger than any figure here: the SYN-ACK is there before connect() waits, or connect() sleeps until
  it arrives. The number of voluntary context switches (getrusage) tells them apart. Each mode is compared with the same mode; a mode that is rare on
  this machine is "not seen". On a veth the sender's CPU handles a packet, so that the first mode is common. For the second mode the CPU of the
  client's packets is changed by receive packet steering (RPS) in a second part of each round. The CPU time per connection is that of client and
  servers by their CPU clocks, in the first part. It does not depend on the mode. It includes the work of the kernel in their context, unless the
  kernel accounts interrupt time separately (CONFIG_IRQ_TIME_ACCOUNTING). The rows "including idle
  programs" compare with the node without programs, so they also contain what the programs cost packets to no Service. The client runs on the first
  CPU, the servers on the last. The UDP row sends one flow of 64-byte datagrams, counted at the receiver.
- **memory row**: RSS of the daemon, ready and idle, with one Service and maps of default size. The yardstick is a Node.js process that does
  nothing.

\`npm run bench -- --compare test/bench/results.json\` reports a regression if the intervals do not overlap and the median ratio is worse by more
than 10 %. \`--only REGEX\` selects rows, \`--rounds N\` sets the number of rounds, and \`--no-write\` keeps the last results.
`;
}

/** Number of rounds of the rows at scale. Each of these rounds takes minutes. */
export const SCALE_ROUNDS = 3;

export function scaleReport(results: readonly Result[], at: Circumstances): string {
  return `## At scale

Made by \`npm run bench -- --scale\` on ${at.date}, commit ${at.commit}, in ${at.minutes.toFixed(1)} minutes, with ${Math.min(at.rounds, SCALE_ROUNDS)} rounds. With so few rounds
the interval is only the range from the smallest to the largest ratio.

- Machine: ${at.machine}. The load average at the start was ${at.load}.
- Versions: ${at.versions}.

${table(results)}

The cluster has 10,000 Services, each with an EndpointSlice of 10 endpoints. The objects come from a real kube-apiserver with etcd on the same
machine. sluiced with maps of default size and the real kube-proxy in nftables mode with default settings run one after the other, each in the
network namespace of a node, and each starts without earlier state.

- **cold start**: time and CPU from exec until all Services are programmed. For sluiced this is when another process finds every VIP in the
  map of frontends. For kube-proxy it is the time of the first sync according to its metric; its set must then contain the last VIP. CPU is user and
  system time, including that of child processes (nft). The last list page is a log line of sluiced, and "Caches are synced" of kube-proxy.
- **one slice changed**: one endpoint of one slice moves, 200 times, one at a time. For sluiced, another process reads the maps 10,000 times a
  second and records when a change is there. The watch event has arrived when its first packet is at eth0 of the node. For kube-proxy
  the figure is its histogram network_programming_duration_seconds (from the write on, with bounds of 0.25, 0.5, 1 s and more), because reading
  its rules takes longer than a change. "network programming, mean" is the mean of this metric for both.
- **churn**: 100 slices per second change all their endpoints, for 60 s. The last third is compared with the first third, because no figure may
  grow. The delay of the event loop and the garbage collection are nodejs_eventloop_lag_p99_seconds (less the 10 ms of its timer) and
  nodejs_gc_duration_seconds of /metrics.
- **5 times the Services**: 50,000 Services of 10 endpoints from the API server double. The yardstick is five times the figure for 10,000 Services
  from the real API server, whose objects are larger because of their managedFields.
`;
}

export function largeReport(results: readonly Result[], at: Circumstances): string {
  return `## Large clusters

Made by \`npm run bench -- --large\` on ${at.date}, commit ${at.commit}, in ${at.minutes.toFixed(1)} minutes, with ${Math.min(at.rounds, SCALE_ROUNDS)} rounds.

- Machine: ${at.machine}. The load average at the start was ${at.load}.
- Versions: ${at.versions}.

${table(results)}

Two clusters from reports to the Kubernetes project: 5,006 Services with 250,011 endpoints (kubernetes/kubernetes#135639) and 44,128 Services with
44,131 endpoints (kubernetes/kubernetes#139513). In these reports the first sync of kube-proxy in nftables mode took 13 to 17 minutes on other machines.
Here the objects come from the API server double on the same machine. sluiced starts without earlier state. Time and CPU count from exec until another
process finds every VIP in the map of frontends; all backends must then be in the maps. The yardstick is a cluster of 10,000 Services with 10 endpoints
each, measured in the same rounds, times the larger of the growth of Services and of endpoints. Maps have the default sizes, except --max-backends,
which is the next power of two that leaves a fifth free.
`;
}

/** The parts of RESULTS.md. Each command replaces one part; `earlier` is maintained by hand. */
export interface Parts {
  readonly main: string;
  readonly scale: string;
  readonly large: string;
  readonly earlier: string;
}

export function partsOf(text: string): Parts {
  const [main = '', ...others] = text.split(/\n(?=## )/);
  const part = (title: string): string => others.find((each) => each.startsWith(`## ${title}`)) ?? '';
  return { main: `${main.trimEnd()}\n`, scale: part('At scale'), large: part('Large clusters'), earlier: part('Earlier') };
}

export const textOf = ({ main, scale, large, earlier }: Parts): string =>
  `${[main, scale, large, earlier]
    .filter((part) => part !== '')
    .map((part) => part.trimEnd())
    .join('\n\n')}\n`;

/** Prints one line for each row. Returns the number of rows that got worse. */
export function compare(results: readonly Result[], before: readonly Result[]): number {
  let worse = 0;
  for (const now of results) {
    const then = before.find((each) => each.row === now.row);
    if (then === undefined) {
      console.log(`new    ${now.row}: ${ratioText(now.ratio)}`);
      continue;
    }
    if (then.verdict === NOT_SEEN || now.verdict === NOT_SEEN) {
      console.log(`none   ${now.row}: not seen in ${now.verdict === NOT_SEEN ? 'this run' : 'the earlier run'}`);
      continue;
    }
    const isWorse = isRegression(then.ratio, now.ratio, now.goal.side);
    worse += Number(isWorse);
    console.log(`${isWorse ? 'WORSE' : 'ok   '}  ${now.row}: ${ratioText(then.ratio)} -> ${ratioText(now.ratio)}`);
  }
  return worse;
}
