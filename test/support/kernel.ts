// SPDX-License-Identifier: Apache-2.0
// Moves a test between network namespaces, which the product never does. setns() and unshare() act on the calling thread, so these
// functions must be called on the main thread of a process. Used by kernel and netns tests.
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { checkedErrno } from '../../daemon/kernel/native.ts';

const CLONE_NEWNET = 0x40000000;

const libc = koffi.load('libc.so.6');
const setns: (fd: number, type: number) => number = libc.func('int setns(int fd, int nstype)');
const unshare: (flags: number) => number = libc.func('int unshare(int flags)');

/** Moves this thread into a new network namespace. It never moves back. */
export function newNetns(): void {
  checkedErrno(unshare(CLONE_NEWNET), 'unshare', 'network namespace');
}

/** Runs `work` in the network namespace at `path` ("/run/netns/x"). `work` must be synchronous. */
export function inNetns<T>(path: string, work: () => T): T {
  const own = openSync('/proc/thread-self/ns/net', 'r');
  const target = openSync(path, 'r');
  try {
    checkedErrno(setns(target, CLONE_NEWNET), 'setns', path);
    try {
      return work();
    } finally {
      // The process must not go on in the wrong namespace.
      if (setns(own, CLONE_NEWNET) !== 0) process.abort();
    }
  } finally {
    closeSync(target);
    closeSync(own);
  }
}
