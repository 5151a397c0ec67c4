// SPDX-License-Identifier: Apache-2.0
// Servers and clients in the namespaces of a lab, by name, and who asked whom. The servers are the witnesses.
import type { Lab } from './lab.ts';
import type { ClientResult, ClientTask } from './peer.ts';
import { Client, Server } from './peers.ts';

/** What a client is asked to do; how often may be left out. */
export type LabRequest = Omit<ClientTask, 'count'> & { readonly count?: number };

/** Of those that sockets get by themselves, and masqueraded flows do not. */
const [FIRST_PORT, LAST_PORT] = [34_000, 60_999];

export class Traffic {
  readonly lab: Lab;
  readonly #servers = new Map<string, Server>();
  readonly #clients = new Map<string, Client>();
  /** By namespace. */
  readonly #nextPorts = new Map<string, number>();

  constructor(lab: Lab) {
    this.lab = lab;
  }

  /** A server in that namespace, which says that name; the namespace's unless told otherwise. */
  async serve(netns: string, options: { name?: string; tcp?: number; udp?: number } = {}): Promise<void> {
    const name = options.name ?? netns;
    this.#servers.set(name, await Server.start(this.lab, { netns, ...options, name }));
  }

  async stopServing(name: string): Promise<void> {
    await this.server(name).process.kill();
    this.#servers.delete(name);
  }

  server(name: string): Server {
    const server = this.#servers.get(name);
    if (server === undefined) throw new Error(`no server is called ${name}`);
    return server;
  }

  /** A client in that namespace: the same one each time. */
  async client(netns: string): Promise<Client> {
    const client = this.#clients.get(netns) ?? (await Client.start(this.lab, netns));
    this.#clients.set(netns, client);
    return client;
  }

  /** Asks from that namespace, 40 times unless told, each time from a port that no client had there for a long time. */
  async ask(netns: string, task: LabRequest): Promise<ClientResult> {
    const client = await this.client(netns);
    const count = task.count ?? 40;
    const used = Math.min(count, 1000);
    const next = this.#nextPorts.get(netns) ?? FIRST_PORT;
    const localPort = next + used > LAST_PORT ? FIRST_PORT : next;
    // A client that gets the port of an old UDP flow gets its translation too, whatever has changed since.
    this.#nextPorts.set(netns, localPort + used);
    return client.ask({ timeoutMs: 5000, ...task, count, localPort });
  }

  /** Who asked each server since the last call: by server, by address. */
  async seen(): Promise<Record<string, Record<string, number>>> {
    const all = await Promise.all([...this.#servers].map(async ([name, server]) => [name, await server.fresh()] as const));
    return Object.fromEntries(all.filter(([, clients]) => Object.keys(clients).length > 0));
  }
}
