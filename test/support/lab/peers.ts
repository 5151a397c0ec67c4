// SPDX-License-Identifier: Apache-2.0
// Handles of processes in the namespaces of a lab: servers and clients (peer.ts), and other generators of traffic. Used by netns and
// cluster tests, the benchmarks and the demo.
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import type { ClientResult, ClientTask, ServerCounts } from './peer.ts';
import type { NumbersResult } from './numbers.ts';
import type { LabProcess } from './process.ts';
import type { StreamResult } from './stream.ts';
import type { TunOptions } from './tun.ts';

const script = join(import.meta.dirname, 'peer.ts');

export class Server {
  readonly process: LabProcess;
  #reported: Readonly<Record<string, number>> = {};

  private constructor(process: LabProcess) {
    this.process = process;
  }

  /** Listens on all addresses of the namespace. Default ports: TCP 8080, UDP 5353. */
  static async start(lab: Lab, options: { netns: string; name: string; tcp?: number; udp?: number }): Promise<Server> {
    const { netns, name, tcp = 8080, udp = 5353 } = options;
    const started = lab.start(netns, [process.execPath, script, 'serve', name, String(tcp), String(udp)]);
    await started.line((line) => line.includes('"ready"'));
    return new Server(started);
  }

  async counts(): Promise<ServerCounts> {
    return JSON.parse(await this.process.ask('counts')) as ServerCounts;
  }

  /** Connections and datagrams since the last call, by client address. */
  async fresh(): Promise<Record<string, number>> {
    const { clients } = await this.counts();
    const fresh = Object.entries(clients).map(([client, count]): [string, number] => [client, count - (this.#reported[client] ?? 0)]);
    this.#reported = clients;
    return Object.fromEntries(fresh.filter(([, count]) => count > 0));
  }
}

export class Client {
  readonly process: LabProcess;

  private constructor(process: LabProcess) {
    this.process = process;
  }

  /** Runs in the cgroup of its node, so that socket hooks apply. The outside host is another machine and has no such cgroup. */
  static async start(lab: Lab, netns: string): Promise<Client> {
    const started = lab.start(netns, [process.execPath, script, 'ask'], { inCgroup: netns !== 'outside' });
    await started.line((line) => line.includes('"ready"'));
    return new Client(started);
  }

  async ask(task: ClientTask): Promise<ClientResult> {
    return JSON.parse(await this.process.ask(JSON.stringify(task))) as ClientResult;
  }
}

/** Makes a TUN device, whose packets travel in UDP datagrams (tun.ts). It exists as long as the process runs. */
export async function startTun(lab: Lab, netns: string, options: TunOptions): Promise<LabProcess> {
  const started = lab.start(netns, [process.execPath, join(import.meta.dirname, 'tun.ts'), JSON.stringify(options)]);
  await started.line((line) => line === 'ready');
  return started;
}

/** A socket that stays open, in a process that runs hold.ts. */
export class OpenSocket {
  readonly process: LabProcess;
  /** Local ports are 32768 to 33767, below the ports that Traffic binds for its clients. Each socket has its own port. */
  static #count = 0;

  private constructor(process: LabProcess) {
    this.process = process;
  }

  static async start(
    lab: Lab,
    netns: string,
    to: { kind: 'tcp' | 'udp' | 'connected'; address: string; port: number },
  ): Promise<OpenSocket> {
    const localPort = 32_768 + (OpenSocket.#count++ % 1000);
    const command = [process.execPath, join(import.meta.dirname, 'hold.ts'), to.kind, to.address, String(to.port), String(localPort)];
    const started = lab.start(netns, command, { inCgroup: true });
    await started.line((line) => line === 'ready');
    return new OpenSocket(started);
  }

  /** Sends a request. Resolves with the name of the server, "timeout" or an error code. */
  async ask(): Promise<string> {
    return this.process.ask('');
  }
}

/** TCP connections that stay open, in a process that runs hold-many.ts. */
export class OpenConnections {
  readonly process: LabProcess;

  private constructor(process: LabProcess) {
    this.process = process;
  }

  static async start(lab: Lab, netns: string, to: { address: string; port: number; count: number }): Promise<OpenConnections> {
    const command = [process.execPath, join(import.meta.dirname, 'hold-many.ts'), to.address, String(to.port), String(to.count)];
    const started = lab.start(netns, command, { inCgroup: netns !== 'client' && netns !== 'outside' });
    await started.line((line) => line === 'ready');
    return new OpenConnections(started);
  }

  /** Sends a request on each connection. Resolves with the name of the server, "timeout", "closed" or an error code of each. */
  async ask(): Promise<string[]> {
    return JSON.parse(await this.process.ask('ask')) as string[];
  }

  /** Closes all connections. Resolves when the servers have closed them too. */
  async close(): Promise<void> {
    await this.process.ask('close');
  }
}

/** A TCP and a UDP flow that run until they are stopped, in a process that runs stream.ts. */
export class Streams {
  readonly process: LabProcess;

  private constructor(process: LabProcess) {
    this.process = process;
  }

  static async start(lab: Lab, netns: string, to: { address: string; tcp: number; udp: number }): Promise<Streams> {
    const command = [process.execPath, join(import.meta.dirname, 'stream.ts'), to.address, String(to.tcp), String(to.udp)];
    const started = lab.start(netns, command, { inCgroup: true });
    await started.line((line) => line.includes('"ready"'));
    return new Streams(started);
  }

  async stop(): Promise<StreamResult> {
    return JSON.parse(await this.process.ask('stop')) as StreamResult;
  }
}

/** Numbered UDP datagrams, sent until stop() and at least `least` of them, in a process that runs numbers.ts. */
export class Numbers {
  readonly process: LabProcess;

  private constructor(process: LabProcess) {
    this.process = process;
  }

  static async start(lab: Lab, netns: string, to: { address: string; port: number; least: number }): Promise<Numbers> {
    const command = [process.execPath, join(import.meta.dirname, 'numbers.ts'), to.address, String(to.port), String(to.least)];
    const started = lab.start(netns, command, { inCgroup: true });
    await started.line((line) => line.includes('"ready"'));
    return new Numbers(started);
  }

  async stop(): Promise<NumbersResult> {
    return JSON.parse(await this.process.ask('stop')) as NumbersResult;
  }
}

/** Measures the longest time in which a device received nothing, in a process that runs stall.ts. */
export class Stall {
  readonly process: LabProcess;

  private constructor(process: LabProcess) {
    this.process = process;
  }

  /** Watches eth0. `before` is a prefix of the command. */
  static async start(lab: Lab, netns: string, before: readonly string[]): Promise<Stall> {
    const started = lab.start(netns, [...before, process.execPath, join(import.meta.dirname, 'stall.ts'), 'eth0']);
    await started.line((line) => line.includes('"ready"'));
    return new Stall(started);
  }

  /** The longest time since the last call, in ms. */
  async longest(): Promise<number> {
    return (JSON.parse(await this.process.ask('longest')) as { longestStallMs: number }).longestStallMs;
  }
}
