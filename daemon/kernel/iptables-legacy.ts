// SPDX-License-Identifier: Apache-2.0
// The filter tables of iptables in its older variant, which is not part of nftables: the policy of the chain FORWARD, and whether a rule
// accepts packets with a bit of the mark. A table that no program has used is not read, because reading would create it. It must never
// change a table. Called by firewall/.
import { readFileSync } from 'node:fs';
import { checkedErrno, closeFd, libc } from './native.ts';

const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
/** IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES, which have the same numbers for IPv6. */
const GET_INFO = 64;
const GET_ENTRIES = 65;
const FORWARD = 2;
const NAME = 32;
/** struct ipt_getinfo: name, valid hooks, 5 entry points, 5 policies, number of entries, size. */
const info = { length: 84, policies: 56, size: 80 };
/** struct ipt_get_entries: name, size, and the entries at a multiple of 8. */
const ENTRIES = 40;
/** Verdicts of a standard target: -NF_DROP - 1 and -NF_ACCEPT - 1. */
const DROP = -1;
const ACCEPT = -2;
/** struct xt_entry_target and struct xt_entry_match: size, name, revision. */
const EXTENSION = 32;

/** For each family: AF_* and SOL_*, the list of tables, and in struct ipt_entry or ip6t_entry the offset of target_offset and the length. */
const layouts = {
  IPv4: { domain: 2, level: 0, names: '/proc/net/ip_tables_names', targetAt: 88, length: 112 },
  IPv6: { domain: 10, level: 41, names: '/proc/net/ip6_tables_names', targetAt: 140, length: 168 },
} as const;

type Family = keyof typeof layouts;

export interface LegacyForward {
  readonly isPolicyDrop: boolean;
  /** The bits of the mark that rules accept, in whichever chain. Only if the policy is drop. */
  readonly acceptedMarks: readonly number[];
}

/** The table of a family; undefined if no program uses it. Throws KernelError. */
export function legacyForward(family: Family): LegacyForward | undefined {
  const { domain, level, names } = layouts[family];
  if (!tables(names).includes('filter')) return undefined;
  const fd = checkedErrno(libc.socket(domain, SOCK_DGRAM_CLOEXEC, 0), 'socket', 'table filter');
  try {
    const found = named(info.length);
    read(fd, { level, name: GET_INFO }, found);
    const size = found.getUint32(info.size, true);
    const entries = named(ENTRIES + size);
    entries.setUint32(NAME, size, true);
    read(fd, { level, name: GET_ENTRIES }, entries);
    const table = new DataView(entries.buffer, ENTRIES);
    return forwardOf(table, found.getUint32(info.policies + 4 * FORWARD, true), layouts[family]);
  } finally {
    closeFd(fd);
  }
}

function tables(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n');
  } catch {
    // The kernel has no such tables.
    return [];
  }
}

/** Memory that begins with the name of the table. */
function named(length: number): DataView {
  const bytes = new Uint8Array(length);
  bytes.set(new TextEncoder().encode('filter'));
  return new DataView(bytes.buffer);
}

function read(fd: number, { level, name }: { readonly level: number; readonly name: number }, into: DataView): void {
  checkedErrno(libc.getsockopt(fd, level, name, into, Uint32Array.of(into.byteLength)), 'getsockopt', 'table filter');
}

type Layout = Pick<(typeof layouts)[Family], 'targetAt' | 'length'>;

function forwardOf(table: DataView, policy: number, layout: Layout): LegacyForward {
  const acceptedMarks: number[] = [];
  if (verdictAt(table, policy, layout) !== DROP) return { isPolicyDrop: false, acceptedMarks };
  for (let at = 0; at + layout.length <= table.byteLength;) {
    const mark = acceptedMark(table, at, layout);
    if (mark !== undefined) acceptedMarks.push(mark);
    // next_offset follows target_offset.
    const length = table.getUint16(at + layout.targetAt + 2, true);
    if (length < layout.length) break;
    at += length;
  }
  return { isPolicyDrop: true, acceptedMarks };
}

/** The verdict of the standard target of an entry; a number above 0 is a jump, and undefined another target. */
function verdictAt(table: DataView, at: number, { targetAt }: Layout): number | undefined {
  const target = at + table.getUint16(at + targetAt, true);
  return nameAt(table, target) === '' ? table.getInt32(target + EXTENSION, true) : undefined;
}

const nameAt = (table: DataView, at: number): string =>
  new TextDecoder().decode(new Uint8Array(table.buffer, table.byteOffset + at + 2, EXTENSION - 3)).replace(/\0.*$/s, '');

/**
 * The bits of the mark if an entry accepts every packet in which they are set. The entry begins with the addresses, devices and protocol
 * that it tests, which are zero if it tests none. struct xt_mark_mtinfo1: mark, mask, invert.
 */
function acceptedMark(table: DataView, at: number, layout: Layout): number | undefined {
  const tested = new Uint8Array(table.buffer, table.byteOffset + at, layout.targetAt - 4);
  if (verdictAt(table, at, layout) !== ACCEPT || tested.some((byte) => byte !== 0)) return undefined;
  const [match, ...others] = matchesOf(table, at, layout).filter((each) => nameAt(table, each) !== 'comment');
  if (match === undefined || others.length > 0 || nameAt(table, match) !== 'mark') return undefined;
  const [mark, mask] = [table.getUint32(match + EXTENSION, true), table.getUint32(match + EXTENSION + 4, true)];
  return mark === mask && table.getUint8(match + EXTENSION + 8) === 0 ? mark : undefined;
}

/** The offsets of the matches of an entry. */
function matchesOf(table: DataView, at: number, { targetAt, length }: Layout): number[] {
  const found: number[] = [];
  const end = at + table.getUint16(at + targetAt, true);
  for (let match = at + length; match + EXTENSION <= end;) {
    found.push(match);
    const size = table.getUint16(match, true);
    if (size < EXTENSION) break;
    match += size;
  }
  return found;
}
