// SPDX-License-Identifier: Apache-2.0
// A node of the in-situ rows: a lab with pods, a remote backend and a client behind the router. The node runs the programs of Sluice,
// the floor programs, or empty programs. For each kind of traffic a client holds 10,000 connections or opens new ones, and a round uses
// each connection once. The run time comes from the kernel's statistics of the programs. situ-rows.ts uses it.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pinnedLinksByName } from '../../support/lab/bpf-objects.ts';
import { Daemon, nodes } from '../../support/lab/daemon.ts';
import { Lab, podAddresses, remoteAddresses } from '../../support/lab/lab.ts';
import type { LabProcess } from '../../support/lab/process.ts';
import { sh } from '../../support/lab/shell.ts';
import { type Hook, hookPrograms, type ProgramIds } from './floor.ts';
import { BACKEND_PORT, groups, nodePorts, objects, type Place, vipOf } from './services.ts';

/** The programs on the node. */
export type Kind = 'sluice' | 'floor' | 'empty';

/** Number of connections that a client holds, unless a test asks for fewer. */
const FLOWS = 10_000;
/** Number of new connections in a round, as a share of the flows. It is small because opening a connection takes several packets. */
const OPENED_SHARE = 0.2;
/** Time limit of a round and of opening all connections, for a slow machine. */
const ROUND_MS = 300_000;

interface Plan {
  readonly netns: string;
  readonly role: 'hold' | 'open';
  readonly inCgroup?: boolean;
  /** Source port of the first connection; each connection has its own port. 0: the kernel chooses the ports. */
  readonly sourcePort: number;
  readonly address: string;
  readonly port: number;
  /** Numbers of addresses and of ports. The connections use them in turn, starting at `address` and `port`. */
  readonly addresses: number;
  readonly ports: number;
}

const toPlace = (place: Place): Pick<Plan, 'address' | 'port' | 'addresses' | 'ports'> => ({
  ...{ address: vipOf(groups[place].first), port: 80, addresses: groups[place].count, ports: 1 },
});
const toPods = { address: podAddresses(1).IPv4, port: BACKEND_PORT, addresses: 2, ports: 1 };

/**
 * Connections of one client that are held at the same time have different source ports, and none of the ports that the kernel chooses for
 * new connections (32,768 to 60,999). Otherwise a new connection to a VIP and a held direct connection to its backend could have the same
 * addresses and ports at the backend.
 *
 * Each kind of traffic runs through other programs. The socket hooks translate only sockets of processes in the node's cgroup.
 */
export const traffics = {
  remote: { netns: 'pod9', role: 'hold', sourcePort: 2000, ...toPlace('remote') },
  node: { netns: 'pod9', role: 'hold', sourcePort: 12_000, ...toPlace('node') },
  direct: { netns: 'pod9', role: 'hold', sourcePort: 22_000, address: remoteAddresses.IPv4, port: BACKEND_PORT, addresses: 1, ports: 1 },
  nodePort: {
    ...{ netns: 'client', role: 'hold', sourcePort: 10_000, address: nodePorts.address, port: nodePorts.first },
    ...{ addresses: 1, ports: nodePorts.count },
  },
  fromNode: { netns: 'node', role: 'hold', sourcePort: 20_000, ...toPlace('remote') },
  opened: { netns: 'pod9', role: 'open', sourcePort: 0, ...toPlace('remote') },
  socketHit: { netns: 'pod9', role: 'open', inCgroup: true, sourcePort: 0, ...toPlace('pods') },
  socketMiss: { netns: 'pod9', role: 'open', inCgroup: true, sourcePort: 0, ...toPods },
} as const satisfies Record<string, Plan>;
export type Traffic = keyof typeof traffics;

/** Number of runs of a program during a round. */
export interface Runs {
  readonly count: number;
  /** Mean run time in ns, which includes the time of the measurement itself. */
  readonly mean: number;
}

interface Shown {
  readonly run_time_ns?: number;
  readonly run_cnt?: number;
}

export class SituNode {
  readonly kind: Kind;
  readonly #flows: number;
  readonly #lab = new Lab();
  readonly #clients = new Map<Traffic, LabProcess>();
  #ids: ProgramIds | undefined;

  constructor(kind: Kind, flows = FLOWS) {
    this.kind = kind;
    this.#flows = flows;
  }

  /** `flows`: path of the compiled flows.c; `yardstick`: path of the compiled yardstick.bpf.c. */
  async open(paths: { readonly flows: string; readonly yardstick: string }, wanted: ReadonlySet<Traffic>): Promise<void> {
    const lab = this.#lab;
    for (const number of [1, 2, 9]) lab.addPod(number);
    lab.addRemotePod();
    lab.addClient();
    for (const netns of ['pod1', 'pod2', 'remote', 'node']) {
      const server = lab.start(netns, [paths.flows, 'serve', String(BACKEND_PORT)]);
      await server.line((line) => line === 'ready');
    }
    this.#ids = this.kind === 'sluice' ? await this.#startDaemon() : await this.#startYardstick(paths.yardstick, this.kind);
    for (const traffic of wanted) {
      const { netns, role, sourcePort, address, port, addresses, ports, ...rest }: Plan = traffics[traffic];
      const count = role === 'hold' ? this.#flows : this.#flows * OPENED_SHARE;
      const numbers = [count, sourcePort, address, port, addresses, ports].map(String);
      const client = lab.start(netns, [paths.flows, role, ...numbers], { inCgroup: rest.inCgroup ?? false });
      await client.line((line) => line === 'ready', 0, ROUND_MS);
      this.#clients.set(traffic, client);
    }
  }

  async #startDaemon(): Promise<ProgramIds> {
    const daemon = new Daemon(this.#lab);
    const items = [...nodes(), ...objects()];
    writeFileSync(join(daemon.source, 'services.json'), JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
    await daemon.start({ hasSocketLb: true, isSmall: false, extra: ['--log-level', 'info'] });
    const links = pinnedLinksByName(join(this.#lab.bpffs, 'sluice', 'links'));
    const idOf = (hook: string): number => {
      const found = [...links].find(([name]) => name.startsWith(hook))?.[1];
      if (found === undefined) throw new Error(`No pinned link of ${hook}.`);
      return found.prog_id;
    };
    const hooks = [...Object.keys(hookPrograms), 'sock_connect4'] as Hook[];
    return Object.fromEntries(hooks.map((hook) => [hook, idOf(hook)])) as ProgramIds;
  }

  async #startYardstick(path: string, kind: 'floor' | 'empty'): Promise<ProgramIds> {
    const script = join(import.meta.dirname, 'floor.ts');
    const started = this.#lab.start('node', [process.execPath, script, path, this.#lab.cgroupOf('node-a'), kind]);
    return JSON.parse(await started.line((line) => line.startsWith('{'))) as ProgramIds;
  }

  /** Sends one request over each connection. Returns the run counts and run times of the programs at these hooks. */
  async round<H extends Hook>(traffic: Traffic, hooks: readonly H[]): Promise<Readonly<Record<H, Runs>>> {
    const before = hooks.map((hook) => this.#shown(hook));
    const connections = Number(await this.#clients.get(traffic)?.ask('go', ROUND_MS));
    const found = hooks.map((hook, index): [H, Runs] => {
      const after = this.#shown(hook);
      const count = (after.run_cnt ?? 0) - (before[index]?.run_cnt ?? 0);
      if (!(count >= connections)) throw new Error(`${this.kind}: ${hook} ran ${count} times for ${connections} connections.`);
      return [hook, { count, mean: ((after.run_time_ns ?? 0) - (before[index]?.run_time_ns ?? 0)) / count }];
    });
    return Object.fromEntries(found) as Record<H, Runs>;
  }

  #shown(hook: Hook): Shown {
    return JSON.parse(sh('bpftool', '-j', 'prog', 'show', 'id', String(this.#ids?.[hook]))) as Shown;
  }

  close(): Promise<void> {
    return this.#lab.close();
  }
}
