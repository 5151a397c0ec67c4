// SPDX-License-Identifier: Apache-2.0
// Servers and clients of a lab, as its parent sees them: each is a process of peer.ts in one namespace.
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import type { ClientResult, ClientTask, ServerCounts } from './peer.ts';
import type { LabProcess } from './process.ts';
import type { StreamResult } from './stream.ts';

const script = join(import.meta.dirname, 'peer.ts');

export class Server {
  readonly process: LabProcess;

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
}

export class Client {
  readonly process: LabProcess;

  private constructor(process: LabProcess) {
    this.process = process;
  }

  /** In the lab's cgroup, so that socket hooks see it. */
  static async start(lab: Lab, netns: string): Promise<Client> {
    const started = lab.start(netns, [process.execPath, script, 'ask'], { inCgroup: true });
    await started.line((line) => line.includes('"ready"'));
    return new Client(started);
  }

  async ask(task: ClientTask): Promise<ClientResult> {
    return JSON.parse(await this.process.ask(JSON.stringify(task))) as ClientResult;
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
