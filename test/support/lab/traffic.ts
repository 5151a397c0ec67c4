// SPDX-License-Identifier: Apache-2.0
// Servers and clients in the namespaces of a lab, by name. The servers record which client address reached them. Used by netns
// and cluster tests.
import type { Lab } from './lab.ts';
import type { ClientResult, ClientTask } from './peer.ts';
import { Client, Server } from './peers.ts';

/** A client's task with an optional number of requests. */
export type LabRequest = Omit<ClientTask, 'count'> & { readonly count?: number };

/** Local ports of clients: inside the kernel's ephemeral range and outside of the source ports of masqueraded flows. */
const [FIRST_PORT, LAST_PORT] = [34_000, 60_999];

export class Traffic {
  readonly lab: Lab;
  readonly #servers = new Map<string, Server>();
  readonly #clients = new Map<string, Client>();
  /** Next local port by namespace. */
  readonly #nextPorts = new Map<string, number>();

  constructor(lab: Lab) {
    this.lab = lab;
  }

  /** Starts a server in a namespace. Default name: that of the namespace. */
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
    if (server === undefined) throw new Error(`there is no server with the name ${name}`);
    return server;
  }

  /** The client of a namespace, started by the first call. */
  async client(netns: string): Promise<Client> {
    const client = this.#clients.get(netns) ?? (await Client.start(this.lab, netns));
    this.#clients.set(netns, client);
    return client;
  }

  /** Sends requests from a namespace, 40 by default, each from a local port that was not used there for a long time. */
  async ask(netns: string, task: LabRequest): Promise<ClientResult> {
    const client = await this.client(netns);
    const count = task.count ?? 40;
    const used = Math.min(count, 1000);
    const next = this.#nextPorts.get(netns) ?? FIRST_PORT;
    const localPort = next + used > LAST_PORT ? FIRST_PORT : next;
    // A request from the port of an old UDP flow would be translated as part of that flow.
    this.#nextPorts.set(netns, localPort + used);
    return client.ask({ timeoutMs: 5000, ...task, count, localPort });
  }

  /** Requests that each server received since the last call, by server and by client address. */
  async seen(): Promise<Record<string, Record<string, number>>> {
    const all = await Promise.all([...this.#servers].map(async ([name, server]) => [name, await server.fresh()] as const));
    return Object.fromEntries(all.filter(([, clients]) => Object.keys(clients).length > 0));
  }
}
