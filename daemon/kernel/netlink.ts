// SPDX-License-Identifier: Apache-2.0
// An AF_NETLINK socket: synchronous requests and dumps, which the kernel answers at once, and multicast events on the event loop. This
// file encodes and decodes messages; its callers, rtnetlink.ts, device-routes.ts and nftables.ts, interpret them. A socket belongs to the
// network namespace in which it was created, even if the thread moves to another one.
import type { KernelError } from '../base/errors.ts';
import { checkedErrno, closeFd, errno, kernelError, libc, type PollHandle, pollReadable, uninterrupted } from './native.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const MSG_DONTWAIT = 0x40;
/** With this flag, recv() returns the length of the whole message, even when the buffer is too small for it. */
const MSG_TRUNC = 0x20;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_RCVBUF = 8;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
export const NLM_F_REQUEST = 1;
export const NLM_F_ACK = 4;
export const NLM_F_DUMP_INTR = 0x10;
const NLM_F_DUMP = 0x300;
const EAGAIN = 11;
const EINTR = 4;
const EMSGSIZE = 90;
const HEADER = 16;
/** Protocols of AF_NETLINK. */
const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
/**
 * Maximum number of attempts of a dump. When the table changes during a dump, entries may be missing, and the kernel marks the dump as
 * interrupted.
 */
const DUMP_ATTEMPTS = 10;
/** Maximum number of messages received in one turn of the event loop, so that a flood of events does not block everything else. */
const RECEIVES_PER_TURN = 64;

export interface NetlinkMessage {
  readonly type: number;
  /** NLM_F_* */
  readonly flags: number;
  /** Family header and attributes. */
  readonly body: Uint8Array;
}

/** Attributes (struct rtattr) by type. The last attribute of a type wins. */
export const attributes = (bytes: Uint8Array): Map<number, Uint8Array> => new Map(attributeList(bytes));

/** Attributes in their order. */
export function attributeList(bytes: Uint8Array): [type: number, value: Uint8Array][] {
  const found: [number, Uint8Array][] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < 4) break;
    found.push([view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length)]);
    at += (length + 3) & ~3;
  }
  return found;
}

/** One attribute, padded to four bytes. */
export function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array((4 + value.length + 3) & ~3);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, 4);
  return bytes;
}

function* messages(bytes: Uint8Array): IterableIterator<NetlinkMessage> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + HEADER <= bytes.length;) {
    const length = view.getUint32(at, true);
    if (length < HEADER) return;
    yield { type: view.getUint16(at + 4, true), flags: view.getUint16(at + 6, true), body: bytes.subarray(at + HEADER, at + length) };
    at += (length + 3) & ~3;
  }
}

/** The error number at the start of the body of NLMSG_ERROR and NLMSG_DONE: 0 or -errno. */
const errorOf = ({ body }: NetlinkMessage): number =>
  body.length < 4 ? 0 : new DataView(body.buffer, body.byteOffset, body.byteLength).getInt32(0, true);

export class NetlinkSocket {
  #fd: number;
  readonly #buffer = new Uint8Array(1 << 16);
  #poll: PollHandle | undefined;
  #sequence = 0;

  /** `groups` is the multicast mask (RTMGRP_*); 0 for a socket that only sends requests. Throws KernelError. */
  constructor(groups = 0, protocol = NETLINK_ROUTE) {
    this.#fd = checkedErrno(libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol), 'netlink', 'socket');
    try {
      this.#configure(groups);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * All messages of a dump (RTM_GETLINK and similar). `what` names the dump in errors. A dump that the kernel marks as interrupted is
   * repeated. Throws EINTR when every try was interrupted.
   */
  dump(type: number, body: Uint8Array, what: string): NetlinkMessage[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt += 1) {
      this.#send(type, NLM_F_REQUEST | NLM_F_DUMP, body);
      const { found, isInterrupted } = this.#collect(what);
      if (!isInterrupted) return found;
    }
    throw kernelError('netlink', `${what} changed during each of ${DUMP_ATTEMPTS} dumps`, EINTR);
  }

  /**
   * The messages of a dump, one received part at a time. The kernel makes the next part when the previous one has been received, so a long
   * dump needs no memory, and the caller may pause between two parts. The messages of a part are valid until the next part is requested.
   * A dump that the kernel marks as interrupted is not repeated.
   */
  *dumpParts(type: number, body: Uint8Array, what: string): Generator<readonly NetlinkMessage[], void> {
    this.#send(type, NLM_F_REQUEST | NLM_F_DUMP, body);
    for (;;) {
      const length = this.#receive(0);
      if (length < 0) throw kernelError('netlink', what, -length);
      const part = [...messages(this.#buffer.subarray(0, length))];
      const last = part.at(-1);
      if (last?.type !== NLMSG_DONE && last?.type !== NLMSG_ERROR) {
        yield part;
        continue;
      }
      const error = errorOf(last);
      if (error !== 0) throw kernelError('netlink', what, Math.abs(error));
      yield part.slice(0, -1);
      return;
    }
  }

  /**
   * Sends several messages at once, of which the kernel answers only one: either one with NLM_F_ACK among `flags`, or the first one that
   * fails.
   */
  transaction(requests: readonly NetlinkMessage[], what: string): void {
    this.#sendBytes(Buffer.concat(requests.map((request) => this.#encoded(request))));
    this.#collect(what);
  }

  /** Sends one request. Returns its answer, which is empty when the kernel only acknowledges the request. */
  request(type: number, body: Uint8Array, what: string): NetlinkMessage[] {
    this.#send(type, NLM_F_REQUEST | NLM_F_ACK, body);
    return this.#collect(what).found;
  }

  /**
   * Reports multicast events. All events received in one turn of the event loop are reported together. Calls `onLost` when events were lost
   * (ENOBUFS) or cannot be received. Nothing is reported afterwards: the caller must close this socket, open another one and read
   * everything again. When listen() throws, the socket is closed.
   */
  listen(onMessages: (messages: readonly NetlinkMessage[]) => void, onLost: (reason: KernelError) => void): void {
    const onReadable = (status: number): void => {
      const { found, failed } = this.#receiveEvents();
      if (found.length > 0) onMessages(found);
      // libuv reports an error of the socket once, as a status, and stops polling.
      const lost = failed === 0 ? -Math.min(0, status) : failed;
      if (lost === 0) return;
      this.#poll?.close();
      this.#poll = undefined;
      onLost(kernelError('netlink', 'events', lost));
    };
    try {
      this.#poll = pollReadable(this.#fd, onReadable);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Idempotent. */
  close(): void {
    this.#poll?.close();
    this.#poll = undefined;
    if (this.#fd >= 0) closeFd(this.#fd);
    this.#fd = -1;
  }

  #configure(groups: number): void {
    const address = new Uint8Array(12);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_NETLINK, true);
    view.setUint32(8, groups, true);
    checkedErrno(libc.bind(this.#fd, address, address.length), 'netlink', 'bind');
    const timeout = new Uint8Array(new BigInt64Array([5n, 0n]).buffer);
    checkedErrno(libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length), 'netlink', 'SO_RCVTIMEO');
    if (groups === 0) return;
    const bufferSize = Uint8Array.of(0, 0, 0x10, 0);
    checkedErrno(libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUF, bufferSize, bufferSize.length), 'netlink', 'SO_RCVBUF');
  }

  #send(type: number, flags: number, body: Uint8Array): void {
    this.#sendBytes(this.#encoded({ type, flags, body }));
  }

  #encoded({ type, flags, body }: NetlinkMessage): Uint8Array {
    const bytes = new Uint8Array(HEADER + body.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint16(4, type, true);
    view.setUint16(6, flags, true);
    view.setUint32(8, (this.#sequence += 1), true);
    bytes.set(body, HEADER);
    return bytes;
  }

  #sendBytes(bytes: Uint8Array): void {
    const rc = uninterrupted(() => libc.send(this.#fd, bytes, bytes.length, 0));
    checkedErrno(rc, 'netlink', 'send');
  }

  /** The number of received bytes, or -errno. */
  #receive(flags: number): number {
    const length = uninterrupted(() => libc.recv(this.#fd, this.#buffer, this.#buffer.length, flags | MSG_TRUNC));
    if (length < 0) return -errno();
    return length > this.#buffer.length ? -EMSGSIZE : length;
  }

  /** The messages that have arrived, up to a limit, and the errno of a failure or 0. */
  #receiveEvents(): { found: NetlinkMessage[]; failed: number } {
    const found: NetlinkMessage[] = [];
    for (let count = 0; count < RECEIVES_PER_TURN; count += 1) {
      const length = this.#receive(MSG_DONTWAIT);
      if (length < 0) return { found, failed: length === -EAGAIN ? 0 : -length };
      found.push(...messages(this.#buffer.slice(0, length)));
    }
    return { found, failed: 0 };
  }

  #collect(what: string): { found: NetlinkMessage[]; isInterrupted: boolean } {
    const found: NetlinkMessage[] = [];
    let isInterrupted = false;
    for (;;) {
      const length = this.#receive(0);
      if (length < 0) throw kernelError('netlink', what, -length);
      for (const message of messages(this.#buffer.slice(0, length))) {
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) isInterrupted = true;
        if (message.type !== NLMSG_DONE && message.type !== NLMSG_ERROR) {
          found.push(message);
          continue;
        }
        const error = errorOf(message);
        if (error !== 0) throw kernelError('netlink', what, Math.abs(error));
        return { found, isInterrupted };
      }
    }
  }
}
