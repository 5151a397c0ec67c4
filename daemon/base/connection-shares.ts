// SPDX-License-Identifier: Apache-2.0
// Limits the number of open connections, in total and per source. When a limit is reached, it closes an open connection instead of refusing
// the new one. It closes idle connections before busy ones, and of these the least recently used one first. A source that opens many
// connections therefore loses its own connections, and a probe always gets a connection. It must never close a connection when no limit is
// reached. It knows no protocol; http-servers.ts uses it for every HTTP port.

/** A connection that can be closed at once. */
interface Closable {
  destroy(): unknown;
}

export interface ConnectionLimits {
  /** Maximum number of open connections from all sources together. */
  readonly total: number;
  /** Maximum number of open connections from one source. */
  readonly perSource: number;
}

interface Entry {
  readonly source: string;
  /** Whether a request on the connection waits for its response. */
  readonly isBusy: boolean;
}

export class ConnectionShares<Connection extends Closable> {
  readonly #limits: ConnectionLimits;
  /** The connections in the order of their last use, the least recently used first. */
  readonly #entries = new Map<Connection, Entry>();
  readonly #counts = new Map<string, number>();
  #closed = 0;

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  /** Number of open connections. */
  get size(): number {
    return this.#entries.size;
  }

  /** Number of connections that were closed to make room for others, since the start. */
  get closed(): number {
    return this.#closed;
  }

  /** Registers a new connection. Closes one other connection if a limit is reached. */
  add(connection: Connection, source: string): void {
    const count = this.#counts.get(source) ?? 0;
    if (count >= this.#limits.perSource) this.#closeOneOf(new Set([source]));
    else if (this.#entries.size >= this.#limits.total) this.#closeOneOf(this.#largestSources());
    this.#entries.set(connection, { source, isBusy: false });
    this.#counts.set(source, (this.#counts.get(source) ?? 0) + 1);
  }

  /** Records that a request arrived (busy), or that the last response was sent (not busy). Either counts as a use. */
  used(connection: Connection, isBusy: boolean): void {
    const entry = this.#entries.get(connection);
    if (entry === undefined) return;
    this.#entries.delete(connection);
    this.#entries.set(connection, { ...entry, isBusy });
  }

  /** Forgets a connection that has been closed. Idempotent. */
  remove(connection: Connection): void {
    const entry = this.#entries.get(connection);
    if (entry === undefined) return;
    this.#entries.delete(connection);
    const count = (this.#counts.get(entry.source) ?? 1) - 1;
    if (count === 0) this.#counts.delete(entry.source);
    else this.#counts.set(entry.source, count);
  }

  /** The sources with the most connections. */
  #largestSources(): Set<string> {
    const most = Math.max(...this.#counts.values());
    return new Set([...this.#counts].filter(([, count]) => count === most).map(([source]) => source));
  }

  /** The idle connection that was used least recently, or the busy one if all are busy. */
  #victimOf(sources: ReadonlySet<string>): Connection | undefined {
    let busy: Connection | undefined;
    for (const [connection, { source, isBusy }] of this.#entries) {
      if (!sources.has(source)) continue;
      if (!isBusy) return connection;
      busy ??= connection;
    }
    return busy;
  }

  #closeOneOf(sources: ReadonlySet<string>): void {
    const victim = this.#victimOf(sources);
    if (victim === undefined) return;
    this.remove(victim);
    this.#closed += 1;
    victim.destroy();
  }
}

/**
 * The source of a connection from a remote address: an IPv4 address, or the /64 network of an IPv6 address, because one host can use
 * every address of its network.
 */
export function sourceOf(remoteAddress: string | undefined): string {
  const [address = ''] = (remoteAddress ?? '').split('%');
  if (address.includes('.')) return address.slice(address.lastIndexOf(':') + 1);
  const [head = [], tail] = address.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const zeros = tail === undefined ? [] : Array.from({ length: 8 - head.length - tail.length }, () => '0');
  return [...head, ...zeros, ...(tail ?? [])].slice(0, 4).join(':');
}
