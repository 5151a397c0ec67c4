// SPDX-License-Identifier: Apache-2.0
// An AF_NETLINK route socket: synchronous requests and dumps, which the kernel answers at once, and multicast events on the
// event loop. This file encodes and decodes messages; rtnetlink.ts, its only caller, interprets them. A socket belongs to the
// network namespace in which it was created, even if the thread moves to another one.
import { checkedErrno, closeFd, errno, kernelError, libc, type PollHandle, pollReadable } from './native.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const MSG_DONTWAIT = 0x40;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_RCVBUF = 8;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
const EAGAIN = 11;
const EINTR = 4;
const ENOBUFS = 105;
const HEADER = 16;

export interface NetlinkMessage {
  readonly type: number;
  /** Family header and attributes. */
  readonly body: Uint8Array;
}

/** Attributes (struct rtattr) by type. The last attribute of a type wins. */
export function attributes(bytes: Uint8Array): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < 4) break;
    found.set(view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length));
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
    yield { type: view.getUint16(at + 4, true), body: bytes.subarray(at + HEADER, at + length) };
    at += (length + 3) & ~3;
  }
}

export class NetlinkSocket {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(1 << 16);
  #poll: PollHandle | undefined;
  #sequence = 0;

  /** `groups` is the multicast mask (RTMGRP_*); 0 for a socket that only sends requests. */
  constructor(groups = 0) {
    this.#fd = checkedErrno(libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, 0), 'netlink', 'socket');
    const address = new Uint8Array(12);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_NETLINK, true);
    view.setUint32(8, groups, true);
    checkedErrno(libc.bind(this.#fd, address, address.length), 'netlink', 'bind');
    const timeout = new Uint8Array(new BigInt64Array([5n, 0n]).buffer);
    libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length);
    if (groups !== 0) libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUF, Uint8Array.of(0, 0, 0x10, 0), 4);
  }

  /** All messages of a dump (RTM_GETLINK and similar). `what` names the dump in errors. */
  dump(type: number, body: Uint8Array, what: string): NetlinkMessage[] {
    this.#send(type, NLM_F_REQUEST | NLM_F_DUMP, body);
    return this.#collect(what);
  }

  /** Sends one request. Returns its answer, which is empty when the kernel only acknowledges the request. */
  request(type: number, body: Uint8Array, what: string): NetlinkMessage[] {
    this.#send(type, NLM_F_REQUEST | NLM_F_ACK, body);
    return this.#collect(what);
  }

  /** Reports multicast events. `onLost` is called when the kernel dropped events; the caller must then read everything again. */
  listen(onMessage: (message: NetlinkMessage) => void, onLost: () => void): void {
    this.#poll = pollReadable(this.#fd, () => {
      for (;;) {
        const length = libc.recv(this.#fd, this.#buffer, this.#buffer.length, MSG_DONTWAIT);
        if (length < 0) {
          const failed = errno();
          if (failed === ENOBUFS) onLost();
          if (failed === EINTR || failed === ENOBUFS) continue;
          if (failed === EAGAIN) return;
          throw kernelError('netlink', 'events', failed);
        }
        for (const message of messages(this.#buffer.slice(0, length))) onMessage(message);
      }
    });
  }

  close(): void {
    this.#poll?.close();
    closeFd(this.#fd);
  }

  #send(type: number, flags: number, body: Uint8Array): void {
    const bytes = new Uint8Array(HEADER + body.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint16(4, type, true);
    view.setUint16(6, flags, true);
    view.setUint32(8, (this.#sequence += 1), true);
    bytes.set(body, HEADER);
    checkedErrno(libc.send(this.#fd, bytes, bytes.length, 0), 'netlink', 'send');
  }

  #collect(what: string): NetlinkMessage[] {
    const found: NetlinkMessage[] = [];
    for (;;) {
      const length = checkedErrno(libc.recv(this.#fd, this.#buffer, this.#buffer.length, 0), 'netlink', what);
      for (const message of messages(this.#buffer.slice(0, length))) {
        if (message.type === NLMSG_DONE) return found;
        if (message.type !== NLMSG_ERROR) {
          found.push(message);
          continue;
        }
        const error = new DataView(message.body.buffer, message.body.byteOffset).getInt32(0, true);
        if (error !== 0) throw kernelError('netlink', what, -error);
        return found;
      }
    }
  }
}
