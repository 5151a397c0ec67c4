// SPDX-License-Identifier: Apache-2.0
// Servers and clients of a lab, as its parent sees them: each is a process of peer.ts in one namespace.
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import type { ClientResult, ClientTask, ServerCounts } from './peer.ts';
import type { NumbersResult } from './numbers.ts';
import type { LabProcess } from './process.ts';
import type { StreamResult } from './stream.ts';

const script = join(import.meta.dirname, 'peer.ts');

export class Server {
  readonly process: LabProcess;
  #taken: Readonly<Record<string, number>> = {};

  private constructor(process: LabProcess) {
    this.process = process;
  }

  /** Listens on all addresses of the namespace; TCP on 8080, UDP on 5353, unless told otherwise. */
  static async start(lab: Lab, options: { netns: string; name: string; tcp?: number; udp?: number }): Promise<Server> {
    const { netns, name, tcp = 8080, udp = 5353 } = options;
    const started = lab.start(netns, [process.execPath, script, 'serve', name, String(tcp), String(udp)]);
    await started.line((line) => line.includes('"ready"'));
    return new Server(started);
  }

  async counts(): Promise<ServerCounts> {
    return JSON.parse(await this.process.ask('counts')) as ServerCounts;
  }

  /** By client address, connections and datagrams since the last call of this. */
  async fresh(): Promise<Record<string, number>> {
    const { clients } = await this.counts();
    const fresh = Object.entries(clients).map(([client, count]): [string, number] => [client, count - (this.#taken[client] ?? 0)]);
    this.#taken = clients;
    return Object.fromEntries(fresh.filter(([, count]) => count > 0));
  }
}

export class Client {
  readonly process: LabProcess;

  private constructor(process: LabProcess) {
    this.process = process;
  }

  /** In the lab's cgroup, so that socket hooks see it; but for the outside host, which is another machine. */
  static async start(lab: Lab, netns: string): Promise<Client> {
    const started = lab.start(netns, [process.execPath, script, 'ask'], { inCgroup: netns !== 'outside' });
    await started.line((line) => line.includes('"ready"'));
    return new Client(started);
  }

  async ask(task: ClientTask): Promise<ClientResult> {
    return JSON.parse(await this.process.ask(JSON.stringify(task))) as ClientResult;
  }
}

/** One socket that is kept: hold.ts. */
export class OpenSocket {
  readonly process: LabProcess;

  private constructor(process: LabProcess) {
    this.process = process;
  }

  static async start(
    lab: Lab,
    netns: string,
    to: { kind: 'tcp' | 'udp' | 'connected'; address: string; port: number },
  ): Promise<OpenSocket> {
    const command = [process.execPath, join(import.meta.dirname, 'hold.ts'), to.kind, to.address, String(to.port)];
    const started = lab.start(netns, command, { inCgroup: true });
    await started.line((line) => line === 'ready');
    return new OpenSocket(started);
  }

  /** Who answers now, "timeout", or the code of an error. */
  async ask(): Promise<string> {
    return this.process.ask('');
  }
}

/** A TCP and a UDP flow that go on until they are stopped: stream.ts. */
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

/** Numbered UDP datagrams until stopped, and at least as many as asked for: numbers.ts. */
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

/** The longest time in which a device received nothing: stall.ts. */
export class Stall {
  readonly process: LabProcess;

  private constructor(process: LabProcess) {
    this.process = process;
  }

  /** On eth0; `before` is put in front of its command. */
  static async start(lab: Lab, netns: string, before: readonly string[]): Promise<Stall> {
    const started = lab.start(netns, [...before, process.execPath, join(import.meta.dirname, 'stall.ts'), 'eth0']);
    await started.line((line) => line.includes('"ready"'));
    return new Stall(started);
  }

  /** Milliseconds since the last call. */
  async longest(): Promise<number> {
    return (JSON.parse(await this.process.ask('longest')) as { longestStallMs: number }).longestStallMs;
  }
}
