// SPDX-License-Identifier: Apache-2.0
// Writes the filter table of iptables in its older variant, as iptables-legacy would: the policy of the chain FORWARD, and a rule in it that
// accepts a bit of the mark. It acts in the network namespace of the calling thread.
import koffi from 'koffi';
import type { Family } from '../../daemon/model/address.ts';
import { checkedErrno, closeFd, libc } from '../../daemon/kernel/native.ts';

const SET_REPLACE = 64;
const layouts = {
  IPv4: { domain: 2, level: 0, entry: 112, targetAt: 88 },
  IPv6: { domain: 10, level: 41, entry: 168, targetAt: 140 },
} as const;
const TARGET = 40;
const ERROR_TARGET = 64;
const MARK_MATCH = 48;
const COUNTERS = 16;
/** struct ipt_replace before the entries. */
const HEADER = 96;
const [DROP, ACCEPT] = [-1, -2];

interface Forward {
  readonly isPolicyDrop: boolean;
  readonly acceptedMark?: number;
}

/** Creates the table. The result changes it again. */
export function setLegacyForward(family: Family, forward: Forward): { set: (forward: Forward) => void } {
  let entries = 4;
  const set = (wanted: Forward): void => {
    entries = replace(family, wanted, entries);
  };
  set(forward);
  return { set };
}

/** Replaces a table of `entriesBefore` entries. Returns the number of its entries now. */
function replace(family: Family, { isPolicyDrop, acceptedMark }: Forward, entriesBefore: number): number {
  const { domain, level, entry, targetAt } = layouts[family];
  const policy = (verdict: number): Uint8Array => entryOf({ entry, targetAt }, standardTarget(verdict));
  const rule = acceptedMark === undefined ? [] : [entryOf({ entry, targetAt }, standardTarget(ACCEPT), markMatch(acceptedMark))];
  const parts = [
    policy(ACCEPT),
    ...rule,
    policy(isPolicyDrop ? DROP : ACCEPT),
    policy(ACCEPT),
    entryOf({ entry, targetAt }, errorTarget()),
  ];
  const offsets = parts.map((_, n) => parts.slice(0, n).reduce((sum, part) => sum + part.length, 0));
  const [input = 0, forward = 0] = offsets;
  const [forwardPolicy = 0, output = 0] = offsets.slice(1 + rule.length);
  const bytes = new Uint8Array([...new Uint8Array(HEADER), ...parts.flatMap((part) => [...part])]);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode('filter'));
  const counters = new Uint8Array(entriesBefore * COUNTERS);
  const words = [
    0b01110,
    parts.length,
    bytes.length - HEADER,
    0,
    input,
    forward,
    output,
    0,
    0,
    input,
    forwardPolicy,
    output,
    0,
    entriesBefore,
  ];
  words.forEach((word, n) => view.setUint32(32 + 4 * n, word, true));
  view.setBigUint64(88, koffi.address(counters), true);
  const fd = checkedErrno(libc.socket(domain, 3, 255), 'socket', family);
  try {
    checkedErrno(libc.setsockopt(fd, level, SET_REPLACE, bytes, bytes.length), 'setsockopt', 'table filter');
  } finally {
    closeFd(fd);
  }
  return parts.length;
}

function entryOf(
  { entry, targetAt }: { readonly entry: number; readonly targetAt: number },
  target: Uint8Array,
  match: Uint8Array = new Uint8Array(),
): Uint8Array {
  const bytes = new Uint8Array(entry + match.length + target.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(targetAt, entry + match.length, true);
  view.setUint16(targetAt + 2, bytes.length, true);
  bytes.set(match, entry);
  bytes.set(target, entry + match.length);
  return bytes;
}

/** struct xt_entry_target or xt_entry_match: size, name, revision. */
function extension(length: number, name: string, revision = 0): DataView {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, length, true);
  bytes.set(new TextEncoder().encode(name), 2);
  bytes[31] = revision;
  return view;
}

function standardTarget(verdict: number): Uint8Array {
  const view = extension(TARGET, '');
  view.setInt32(32, verdict, true);
  return new Uint8Array(view.buffer);
}

function errorTarget(): Uint8Array {
  const view = extension(ERROR_TARGET, 'ERROR');
  new Uint8Array(view.buffer).set(new TextEncoder().encode('ERROR'), 32);
  return new Uint8Array(view.buffer);
}

function markMatch(mark: number): Uint8Array {
  const view = extension(MARK_MATCH, 'mark', 1);
  view.setUint32(32, mark, true);
  view.setUint32(36, mark, true);
  return new Uint8Array(view.buffer);
}
