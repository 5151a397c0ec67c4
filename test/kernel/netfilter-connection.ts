// SPDX-License-Identifier: Apache-2.0
// A TCP connection that netfilter has translated in the namespace of a kernel test, as kube-proxy's rules do, so that nf_conntrack knows its
// tuples. Both ends are sockets of this process. Their addresses are on the loopback device only until the connection is open, so that the
// routes of the test do not change. Used by kernel tests.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { ip } from './fixture.ts';

export interface NetfilterConnection {
  readonly client: string;
  readonly clientPort: number;
  /** The destination of the client's packets. */
  readonly destination: string;
  readonly destinationPort: number;
  /** The address and the port that the destination becomes. Default: the destination itself. */
  readonly server?: string;
  readonly serverPort?: number;
  /** The address and the port that the source becomes. Default: the client itself. */
  readonly source?: string;
  readonly sourcePort?: number;
}

const TABLE = 'translated';

export class NetfilterConnections {
  readonly #open: (Server | Socket)[] = [];

  /** Opens a connection. Its entry in nf_conntrack lasts until close(). */
  async open(connection: NetfilterConnection): Promise<void> {
    const { client, clientPort, destination, destinationPort, server = destination, serverPort = destinationPort } = connection;
    const { source = client, sourcePort = clientPort } = connection;
    const [name, prefix] = client.includes(':') ? ['ip6', 128] : ['ip', 32];
    const at = (address: string, port: number): string => (name === 'ip6' ? `[${address}]:${port}` : `${address}:${port}`);
    nft(`table inet ${TABLE} {
      chain output { type nat hook output priority -100
        ${name} daddr ${destination} tcp dport ${destinationPort} dnat ${name} to ${at(server, serverPort)}; }
      chain postrouting { type nat hook postrouting priority 100
        ${name} saddr ${client} tcp sport ${clientPort} snat ${name} to ${at(source, sourcePort)}; }
    }`);
    const addresses = [...new Set([client, destination, server])].filter((address) => !hasAddress(address));
    for (const address of addresses) ip('address', 'add', `${address}/${prefix}`, 'dev', 'lo', ...(name === 'ip6' ? ['nodad'] : []));
    try {
      const listener = createServer().listen(serverPort, server);
      this.#open.push(listener);
      await once(listener, 'listening');
      listener.on('connection', (socket) => void this.#open.push(socket.on('error', () => undefined)));
      const socket = connect({ host: destination, port: destinationPort, localAddress: client, localPort: clientPort });
      this.#open.push(socket.on('error', () => undefined));
      await Promise.all([once(socket, 'connect'), once(listener, 'connection')]);
    } finally {
      for (const address of addresses) ip('address', 'del', `${address}/${prefix}`, 'dev', 'lo');
      nft(`delete table inet ${TABLE}`);
    }
  }

  close(): void {
    for (const each of this.#open) {
      if ('listening' in each) each.close();
      else each.destroy();
    }
    this.#open.length = 0;
  }
}

const nft = (rules: string): void => void execFileSync('nft', ['-f', '-'], { input: rules });
const hasAddress = (address: string): boolean => ip('-o', 'address', 'show', 'to', address) !== '';
