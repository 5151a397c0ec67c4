// SPDX-License-Identifier: Apache-2.0
// BPF_PROG_TEST_RUN: runs a loaded tc program on one packet in the network namespace of the caller. Nothing is sent: a redirect is
// only visible as the return value TC_ACT_REDIRECT. Called by explain/ and by tests.
import { addressOf, checked, libbpf, uninterruptedBpf } from './native.ts';

export interface TestRunResult {
  /** TC_ACT_*; TC_ACT_UNSPEC is -1. */
  readonly verdict: number;
  /** The packet after the run. */
  readonly packet: Uint8Array;
  /** skb->mark after the run. */
  readonly mark: number;
  /** Average time of a run in ns. It needs about 100,000 repetitions to be meaningful. */
  readonly nanoseconds: number;
}

export interface TestRunOptions {
  readonly repeat?: number;
  /** skb->ifindex. The device must exist in the network namespace. Default: loopback. */
  readonly ifindex?: number;
  /** skb->ingress_ifindex. */
  readonly ingressIfindex?: number;
  /** skb->mark. Default: 0. */
  readonly mark?: number;
}

const OPTIONS_SIZE = 80;
const SKB_CONTEXT_SIZE = 192; // struct __sk_buff
const MARK_AT = 8;
const ROOM = 512; // room for programs that make the packet longer

/** Runs a tc program. `packet` starts with its Ethernet header. */
export function testRun(programFd: number, packet: Uint8Array, options: TestRunOptions = {}): TestRunResult {
  const out = new Uint8Array(packet.length + ROOM);
  const context = new Uint8Array(SKB_CONTEXT_SIZE);
  const contextView = new DataView(context.buffer);
  contextView.setUint32(MARK_AT, options.mark ?? 0, true);
  contextView.setUint32(36, options.ingressIfindex ?? 0, true);
  contextView.setUint32(40, options.ifindex ?? 0, true);
  const opts = new Uint8Array(OPTIONS_SIZE);
  const view = new DataView(opts.buffer);
  view.setBigUint64(0, BigInt(OPTIONS_SIZE), true);
  view.setBigUint64(8, addressOf(packet), true);
  view.setBigUint64(16, addressOf(out), true);
  view.setUint32(24, packet.length, true);
  view.setUint32(28, out.length, true);
  view.setBigUint64(32, addressOf(context), true);
  view.setBigUint64(40, addressOf(context), true);
  view.setUint32(48, context.length, true);
  view.setUint32(52, context.length, true);
  view.setInt32(60, options.repeat ?? 1, true);
  // A signal ends a run with EINTR before anything is copied to the options.
  checked(
    uninterruptedBpf(() => libbpf.testRun(programFd, opts)),
    'test run',
    `program fd ${programFd}`,
  );
  return {
    ...{ verdict: view.getInt32(56, true), packet: out.slice(0, view.getUint32(28, true)), nanoseconds: view.getUint32(64, true) },
    mark: contextView.getUint32(MARK_AT, true),
  };
}

/** Runs a syscall program on its argument. Returns the result of the program as a signed number. */
export function testRunSyscall(programFd: number, argument: Uint8Array): number {
  const opts = new Uint8Array(OPTIONS_SIZE);
  const view = new DataView(opts.buffer);
  view.setBigUint64(0, BigInt(OPTIONS_SIZE), true);
  view.setBigUint64(32, addressOf(argument), true);
  view.setUint32(48, argument.length, true);
  checked(
    uninterruptedBpf(() => libbpf.testRun(programFd, opts)),
    'test run',
    `program fd ${programFd}`,
  );
  return view.getInt32(56, true);
}
