// SPDX-License-Identifier: Apache-2.0
// The table of the addresses at which this agent reaches the API server: the address of each configured server, the addresses to which the
// name of a server was last resolved, and the peer address of each open connection. The table prevents Services from taking over the
// connection to the API server. A Service may still take over the first connection to a new address, but not the next attempt. Used by
// connection.ts.
import { isIP } from 'node:net';
import { parseAddress } from '../../model/address.ts';
import { type ApiServerAddress, apiServerKey } from '../../model/api-server.ts';
import type { Table } from '../../table/table.ts';

/**
 * Maximum number of addresses that are used of one answer of a name server. An answer may contain any number of them, and a connection
 * tries only a few.
 */
const MAX_ADDRESSES = 64; // per server

interface Known {
  resolved: readonly string[];
  /** Peer addresses of open connections, each once per connection. */
  readonly connected: string[];
}

export class ApiServerAddresses {
  readonly #table: Table<string, ApiServerAddress>;
  readonly #servers = new Map<URL, Known>();

  /** Writes the addresses of servers whose URL contains an address. */
  constructor(table: Table<string, ApiServerAddress>, servers: readonly URL[]) {
    this.#table = table;
    const markInitialized = table.registerSource('kubernetes');
    for (const server of servers)
      this.#servers.set(server, { resolved: isIP(hostOf(server)) === 0 ? [] : [hostOf(server)], connected: [] });
    this.#write();
    markInitialized();
  }

  /** Records the addresses to which the name of the server resolves now. */
  resolved(server: URL, addresses: readonly string[]): void {
    const known = this.#servers.get(server);
    if (known === undefined) return;
    known.resolved = addresses.slice(0, MAX_ADDRESSES);
    this.#write();
  }

  /** Records an open connection to the server. Returns the function to call when the connection is closed. */
  connected(server: URL, address: string): () => void {
    const connected = this.#servers.get(server)?.connected ?? [];
    connected.push(address);
    this.#write();
    return () => {
      const at = connected.indexOf(address);
      if (at !== -1) connected.splice(at, 1);
      this.#write();
    };
  }

  /** Writes the known addresses to the table, and deletes all others. */
  #write(): void {
    const rows = new Map<string, ApiServerAddress>();
    for (const [server, { resolved, connected }] of this.#servers) {
      for (const text of [...resolved, ...connected]) {
        const address = parseAddress(text)?.text;
        if (address === undefined) continue;
        const row = { address, port: portOf(server) };
        rows.set(apiServerKey(row), row);
      }
    }
    for (const [key] of [...this.#table.all()]) if (!rows.has(key)) this.#table.delete(key);
    for (const [key, row] of rows) if (this.#table.get(key) === undefined) this.#table.upsert(key, row);
  }
}

/** Host of a URL, without the brackets of an IPv6 address. */
export const hostOf = (url: URL): string => url.hostname.replace(/^\[|\]$/g, '');

/** Port of a URL; the default of its scheme if the URL names none. */
export const portOf = (url: URL): number => Number(url.port) || (url.protocol === 'https:' ? 443 : 80);
