// SPDX-License-Identifier: Apache-2.0
// Which IPv6 address of a node the kernel selects as source for a destination and an outgoing device (RFC 6724, 5, as ipv6_dev_get_saddr()
// implements it), as rows of a trie. The destinations are divided into regions with the same label. Within a region, all rules but the last
// one have the same result for every destination, and the last one is the longest matching prefix, which a trie expresses. Pure.
import type { AddressLabel, InterfaceAddress } from '../../kernel/rtnetlink.ts';
import { addressText } from '../../model/address.ts';

const BITS = 128;
/** IFA_F_*. An address with one of the flags `avoided` is used only if there is no other (rule 3). */
const flag = { temporary: 0x01, optimistic: 0x04, deprecated: 0x20 };
const avoided = flag.optimistic | flag.deprecated;

interface Prefix {
  /** The address as a number; bits after the length are 0. */
  readonly base: bigint;
  readonly length: number;
}

interface Candidate {
  readonly ifindex: number;
  readonly value: bigint;
  /** Length of the prefix. A longer match with a destination counts as this length. */
  readonly length: number;
  readonly isAvoided: boolean;
  /** True if the address is temporary and its device prefers that, or neither. */
  readonly isOfPreferredKind: boolean;
  readonly isSiteLocal: boolean;
  readonly isOrchid: boolean;
  readonly label: number | undefined;
}

interface Row extends Prefix {
  readonly winner: Candidate;
}

export interface Ipv6SourceRow {
  /** 0 for devices without rows. */
  readonly ifindex: number;
  readonly cidr: string;
  readonly address: string;
}

export interface Ipv6Selection {
  /** Global addresses that may be used, in the order of the kernel. */
  readonly addresses: readonly InterfaceAddress[];
  readonly labels: readonly AddressLabel[];
  /** Devices on which temporary addresses are preferred (use_tempaddr). */
  readonly temporary: ReadonlySet<number>;
}

const numberOf = (bytes: Uint8Array): bigint => bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
const upper = (value: bigint, length: number): bigint => value >> BigInt(BITS - length);
const contains = ({ base, length }: Prefix, value: bigint): boolean => upper(base, length) === upper(value, length);
const isPart = (inner: Prefix, outer: Prefix): boolean => inner.length >= outer.length && contains(outer, inner.base);
const textOf = (value: bigint): string =>
  addressText(Uint8Array.from({ length: 16 }, (_, n) => Number((value >> BigInt(120 - 8 * n)) & 0xffn)));
const cidrOf = ({ base, length }: Prefix): string => `${textOf(base)}/${length}`;

/** Site-local addresses have a smaller scope than global ones. ORCHIDs are preferred for other ORCHIDs only. */
const siteLocal: Prefix = { base: 0xfec0n << 112n, length: 10 };
const orchid: Prefix = { base: 0x20010010n << 96n, length: 28 };

/** The length of the match of an address with the destinations of a prefix that match no longer prefix. */
function matchOf({ value, length }: Candidate, prefix: Prefix): number {
  const most = Math.min(length, prefix.length);
  const different = upper(value ^ prefix.base, most);
  return different === 0n ? most : most - different.toString(2).length;
}

export class Ipv6Sources {
  readonly #candidates: readonly Candidate[];
  readonly #labels: readonly (Prefix & { readonly label: number })[];
  readonly #regions: readonly Prefix[];

  constructor({ addresses, labels, temporary }: Ipv6Selection) {
    this.#labels = labels.map(({ address, prefixLength, label }) => ({ base: numberOf(address), length: prefixLength, label }));
    this.#candidates = addresses.map(({ ifindex, address, prefixLength, flags }) => {
      const value = numberOf(address);
      return {
        ...{ ifindex, value, length: prefixLength, label: this.#labelOf({ base: value, length: BITS }) },
        isAvoided: (flags & avoided) !== 0,
        isOfPreferredKind: ((flags & flag.temporary) !== 0) === temporary.has(ifindex),
        ...{ isSiteLocal: contains(siteLocal, value), isOrchid: contains(orchid, value) },
      };
    });
    const all = [{ base: 0n, length: 0 }, siteLocal, orchid, ...this.#labels];
    this.#regions = [...new Map(all.map((each) => [cidrOf(each), each])).values()];
  }

  /** The rows of the devices that have an address, and the rows with ifindex 0. A device whose rows would equal those of 0 has none. */
  rows(): Ipv6SourceRow[] {
    const common = this.#rowsOf(0);
    const texts = new Set(common.map(({ cidr, address }) => `${cidr} ${address}`));
    const devices = [...new Set(this.#candidates.map(({ ifindex }) => ifindex))];
    const own = devices.flatMap((ifindex) => {
      const rows = this.#rowsOf(ifindex);
      return rows.length === common.length && rows.every(({ cidr, address }) => texts.has(`${cidr} ${address}`)) ? [] : rows;
    });
    return [...common, ...own];
  }

  #rowsOf(ifindex: number): Ipv6SourceRow[] {
    const regions: Row[] = [];
    const longer: Row[] = [];
    for (const region of this.#regions) {
      const candidates = this.#preferred(region, ifindex);
      const winner = winnerOf(candidates, region);
      if (winner === undefined) continue;
      regions.push({ ...region, winner });
      const inside = candidates.filter(({ value }) => contains(region, value));
      const nested = this.#regions.filter((each) => each !== region && isPart(each, region));
      longer.push(...longerRows(inside, region, { above: winner, nested }));
    }
    // A region needs no row if the trie has the same result without it.
    const sorted = [...regions, ...longer].toSorted((a, b) => a.length - b.length);
    const needed = regions.filter(
      (region) => sorted.findLast((row) => row.length < region.length && isPart(region, row))?.winner !== region.winner,
    );
    return [...needed, ...longer].map((row) => ({ ifindex, cidr: cidrOf(row), address: textOf(row.winner.value) }));
  }

  /** The addresses that all rules but the longest match prefer for the destinations of a region. */
  #preferred(region: Prefix, ifindex: number): Candidate[] {
    const label = this.#labelOf(region);
    const [isSiteLocal, isOrchid] = [isPart(region, siteLocal), isPart(region, orchid)];
    const rules: ((candidate: Candidate) => boolean)[] = [
      (candidate) => candidate.isSiteLocal === isSiteLocal,
      (candidate) => !candidate.isAvoided,
      (candidate) => candidate.ifindex === ifindex,
      (candidate) => candidate.label === label,
      (candidate) => candidate.isOfPreferredKind,
      (candidate) => candidate.isOrchid === isOrchid,
    ];
    return rules.reduce<Candidate[]>(
      (left, rule) => {
        const passed = left.filter(rule);
        return passed.length > 0 ? passed : left;
      },
      [...this.#candidates],
    );
  }

  /** The label of the longest prefix that contains all of a region. */
  #labelOf(region: Prefix): number | undefined {
    const found = this.#labels.filter((each) => isPart(region, each));
    return found.toSorted((a, b) => b.length - a.length)[0]?.label;
  }
}

/** The first address with the longest match for the destinations of a region that have no longer one. */
function winnerOf(candidates: readonly Candidate[], region: Prefix): Candidate | undefined {
  const best = Math.max(...candidates.map((candidate) => matchOf(candidate, region)));
  return candidates.find((candidate) => matchOf(candidate, region) === best);
}

/**
 * The rows for the two halves of a prefix, and for their halves. `members` are the addresses in the prefix, in order of preference; `above`
 * is the address that wins for the prefix.
 */
function* longerRows(
  members: readonly Candidate[],
  { base, length }: Prefix,
  { above, nested }: { readonly above: Candidate; readonly nested: readonly Prefix[] },
): Generator<Row, void> {
  if (length === BITS) return;
  for (const half of [base, base | (1n << BigInt(BITS - 1 - length))]) {
    const prefix = { base: half, length: length + 1 };
    const left = members.filter((member) => member.length > length && contains(prefix, member.value));
    const [winner] = left;
    if (winner === undefined || nested.some((each) => isPart(prefix, each))) continue;
    if (winner !== above) yield { ...prefix, winner };
    // Of a single address, longer matches have the same result.
    if (left.length > 1) yield* longerRows(left, prefix, { above: winner, nested });
  }
}
