// SPDX-License-Identifier: Apache-2.0
// A TCP connection that passes received data on in small slices. Without slices, a client could make the HTTP parser of Node.js work on 64
// KiB of pipelined requests (more than 2,000) without a pause. The connections of all servers take turns in one queue. Between two polls of
// the event loop, the queue works for a limited time. A connection gets its next slice when its complete requests have been answered. It
// must never hold up a connection whose requests are answered. Used by http-servers.ts.
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { systemClock } from './clock.ts';

/**
 * Maximum size of a slice in bytes. The shortest valid request has 25 bytes, so at most 10 requests end in a slice. A typical request fits
 * into one slice.
 */
const SLICE_BYTES = 250;

/**
 * Time limit in milliseconds for slices between two polls of the event loop. In the same interval, the event loop accepts one connection
 * per port.
 */
const TURN_MS = 2;

/** The queue in which connections wait for their next slice. The sources take turns, and so do the connections of a source. */
export class SliceQueue {
  readonly #waiting = new Map<string, Set<() => void>>();
  #isScheduled = false;

  /** Adds a task at the end of the tasks of its source, once. */
  add(source: string, task: () => void): void {
    const tasks = this.#waiting.get(source);
    if (tasks === undefined) this.#waiting.set(source, new Set([task]));
    else tasks.add(task);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#run());
  }

  /** One turn: runs tasks that wait at its start, for at most TURN_MS. All other tasks wait for the next turn. */
  #run(): void {
    this.#isScheduled = false;
    const until = systemClock.now() + TURN_MS;
    for (let left = this.#size(); left > 0 && systemClock.now() < until; left -= 1) this.#next()?.();
    if (this.#waiting.size > 0) this.#schedule();
  }

  /** Takes the first task of the source whose turn it is. The source then waits behind the other sources. */
  #next(): (() => void) | undefined {
    const [entry] = this.#waiting;
    if (entry === undefined) return undefined;
    const [source, tasks] = entry;
    const [task] = tasks;
    if (task !== undefined) tasks.delete(task);
    this.#waiting.delete(source);
    if (tasks.size > 0) this.#waiting.set(source, tasks);
    return task;
  }

  #size(): number {
    let size = 0;
    for (const tasks of this.#waiting.values()) size += tasks.size;
    return size;
  }
}

export class SlicedSocket extends Duplex {
  readonly #socket: Socket;
  readonly #queue: SliceQueue;
  readonly #source: string;
  /** Requests without a response. */
  readonly #pending = new Set<IncomingMessage>();
  readonly #feed = (): void => this.#push();
  #isWanted = false;

  constructor(socket: Socket, { queue, source }: { readonly queue: SliceQueue; readonly source: string }) {
    super({ allowHalfOpen: true, readableHighWaterMark: SLICE_BYTES, writableHighWaterMark: socket.writableHighWaterMark });
    this.#socket = socket;
    this.#queue = queue;
    this.#source = source;
    socket.on('readable', () => this.#schedule());
    socket.on('end', () => this.push(null));
    socket.on('timeout', () => this.emit('timeout'));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
  }

  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress;
  }

  /** True while a request has no response. */
  get isBusy(): boolean {
    return this.#pending.size > 0;
  }

  began(request: IncomingMessage): void {
    this.#pending.add(request);
  }

  ended(request: IncomingMessage): void {
    this.#pending.delete(request);
    this.#schedule();
  }

  /** node:http calls this method for its time-outs; see net.Socket.setTimeout(). */
  setTimeout(ms: number): this {
    this.#socket.setTimeout(ms);
    return this;
  }

  /** node:http calls this method after the last response; see net.Socket.destroySoon(). */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  override _read(): void {
    this.#isWanted = true;
    this.#schedule();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#socket.write(chunk, callback);
  }

  override _writev(chunks: { readonly chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this.#socket.cork();
    for (const { chunk } of chunks.slice(0, -1)) this.#socket.write(chunk);
    this.#socket.write(chunks.at(-1)?.chunk ?? Buffer.alloc(0), callback);
    this.#socket.uncork();
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#socket.end(callback);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#socket.destroy();
    callback(error);
  }

  /** Adds the connection to the queue if it can pass on a slice: data has arrived, and every complete request has been answered. */
  #schedule(): void {
    if (this.#canPush()) this.#queue.add(this.#source, this.#feed);
  }

  #canPush(): boolean {
    if (this.destroyed || !this.#isWanted || this.#socket.readableLength === 0) return false;
    for (const { complete } of this.#pending) if (complete) return false;
    return true;
  }

  #push(): void {
    if (!this.#canPush()) return;
    const slice = this.#socket.read(Math.min(SLICE_BYTES, this.#socket.readableLength)) as Buffer | null;
    if (slice === null) return;
    this.#isWanted = false;
    this.push(slice);
  }
}
