// SPDX-License-Identifier: Apache-2.0
// The chains of nftables that decide about forwarded packets, and one kind of rule in them: accept packets with a bit of the mark. iptables
// of the nf_tables variant has its chains here too, and reads that rule. It must never change another rule. Called by firewall/.
import {
  attribute,
  attributeList,
  attributes,
  NETLINK_NETFILTER,
  NetlinkSocket,
  NLM_F_ACK,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
} from './netlink.ts';

const SUBSYSTEM = 10;
const message = { newRule: 6, getRule: 7, deleteRule: 8, getChain: 4, getGeneration: 16 };
const BATCH_BEGIN = 16;
const BATCH_END = 17;
const NLM_F_CREATE = 0x400;
const NLM_F_APPEND = 0x800;
const NLA_F_NESTED = 0x8000;

const NF_INET_FORWARD = 2;
const NF_DROP = 0;
const NF_ACCEPT = 1;
const NFT_META_MARK = 3;
const NFT_REG_1 = 1;
const NFT_UDATA_RULE_COMMENT = 0;
/** NFPROTO_* of the families whose chains see forwarded IP packets. */
const families = { ip: 2, ip6: 10, inet: 1 } as const;

/** A base chain of the forward hook. */
export interface ForwardChain {
  readonly family: keyof typeof families;
  readonly table: string;
  readonly chain: string;
  readonly isPolicyDrop: boolean;
}

export interface ChainRule {
  readonly handle: bigint;
  /** The comment of the rule; undefined if it has none. */
  readonly comment: string | undefined;
  /** True if the rule drops or rejects every packet. */
  readonly dropsAll: boolean;
  /** The bits of the mark if the rule accepts packets that have them all, whatever else they are. */
  readonly acceptedMark: number | undefined;
}

const word = (bytes: Uint8Array | undefined): number | undefined =>
  bytes === undefined || bytes.length < 4 ? undefined : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
/** A word in the byte order of the host, in which registers have the mark. */
const hostWord = (bytes: Uint8Array | undefined): number | undefined =>
  bytes === undefined || bytes.length < 4 ? undefined : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes ?? new Uint8Array()).replace(/\0.*$/s, '');
const nested = (bytes: Uint8Array | undefined): Map<number, Uint8Array> => attributes(bytes ?? new Uint8Array());

const bigEndian = (value: number): Uint8Array => new Uint8Array([value >>> 24, value >>> 16, value >>> 8, value]);
const littleEndian = (value: number): Uint8Array => bigEndian(value).toReversed();
const string = (value: string): Uint8Array => new TextEncoder().encode(`${value}\0`);
const numbered = (type: number, value: number): Uint8Array => attribute(type, bigEndian(value));
const nest = (type: number, ...parts: readonly Uint8Array[]): Uint8Array => attribute(type | NLA_F_NESTED, Buffer.concat(parts));
/** struct nfgenmsg: family, version, resource. */
const header = (family: number, resource = 0): Uint8Array => Uint8Array.of(family, 0, resource >> 8, resource & 0xff);
const HEADER = 4;

function withSocket<T>(work: (socket: NetlinkSocket) => T): T {
  const socket = new NetlinkSocket(0, NETLINK_NETFILTER);
  try {
    return work(socket);
  } finally {
    socket.close();
  }
}

const typeOf = (number: number): number => (SUBSYSTEM << 8) | number;

/** The number of the last change of the rules. Throws KernelError. */
export function rulesGeneration(): number {
  const [answer] = withSocket((socket) => socket.request(typeOf(message.getGeneration), header(0), 'generation of the rules'));
  return word(attributes(answer?.body.subarray(HEADER) ?? new Uint8Array()).get(1)) ?? 0;
}

/**
 * The base chains of the forward hook, a part of all chains at a time, since iptables and kube-proxy may have thousands of chains. If the
 * rules change meanwhile, chains may be missing, and the last part is undefined. Throws KernelError.
 */
export function* forwardChains(): Generator<readonly ForwardChain[] | undefined, void> {
  const socket = new NetlinkSocket(0, NETLINK_NETFILTER);
  let isInterrupted = false;
  try {
    for (const part of socket.dumpParts(typeOf(message.getChain), header(0), 'chains')) {
      isInterrupted ||= part.some(({ flags }) => (flags & NLM_F_DUMP_INTR) !== 0);
      yield part.flatMap(({ body }) => forwardChain(body));
    }
  } finally {
    socket.close();
  }
  if (isInterrupted) yield undefined;
}

/** Attributes: NFTA_CHAIN_TABLE 1, NAME 3, HOOK 4 with HOOKNUM 1, POLICY 5. */
function forwardChain(body: Uint8Array): ForwardChain[] {
  const found = attributes(body.subarray(HEADER));
  const family = (Object.keys(families) as (keyof typeof families)[]).find((name) => families[name] === body[0]);
  if (family === undefined || !found.has(4) || word(nested(found.get(4)).get(1)) !== NF_INET_FORWARD) return [];
  return [{ family, table: text(found.get(1)), chain: text(found.get(3)), isPolicyDrop: word(found.get(5)) === NF_DROP }];
}

const chainAttributes = ({ table, chain }: ForwardChain): Uint8Array[] => [attribute(1, string(table)), attribute(2, string(chain))];

/** The rules of a chain in their order. Attributes: NFTA_RULE_HANDLE 3, EXPRESSIONS 4, USERDATA 7. Throws KernelError. */
export function rulesOf(chain: ForwardChain): ChainRule[] {
  const body = Buffer.concat([header(families[chain.family]), ...chainAttributes(chain)]);
  const found = withSocket((socket) => socket.dump(typeOf(message.getRule), body, `rules of the chain ${chain.chain}`));
  return found.map(({ body: rule }) => {
    const values = attributes(rule.subarray(HEADER));
    const handle = values.get(3) ?? new Uint8Array(8);
    const expressions = expressionsOf(values.get(4));
    return {
      handle: new DataView(handle.buffer, handle.byteOffset).getBigUint64(0),
      comment: commentOf(values.get(7)),
      dropsAll: dropsAll(expressions),
      acceptedMark: acceptedMark(expressions),
    };
  });
}

interface Expression {
  readonly name: string;
  readonly data: ReadonlyMap<number, Uint8Array>;
}

/** What a rule tests and does, without what it only records. */
function expressionsOf(bytes: Uint8Array | undefined): Expression[] {
  const all = attributeList(bytes ?? new Uint8Array()).map(([, element]) => {
    const found = attributes(element);
    return { name: text(found.get(1)), data: nested(found.get(2)) };
  });
  return all.filter(({ name }) => name !== 'counter' && name !== 'log');
}

/** The verdict of an immediate expression: NFTA_IMMEDIATE_DATA 2, NFTA_DATA_VERDICT 2, NFTA_VERDICT_CODE 1. */
const verdictOf = ({ name, data }: Expression): number | undefined =>
  name === 'immediate' ? word(nested(nested(data.get(2)).get(2)).get(1)) : undefined;

/** True for a rule that is a drop verdict and nothing else. The expression "target" is a target of iptables-nft; attribute 1 is its name. */
function dropsAll([only, ...others]: readonly Expression[]): boolean {
  if (only === undefined || others.length > 0) return false;
  return only.name === 'reject' || verdictOf(only) === NF_DROP || (only.name === 'target' && text(only.data.get(1)) === 'REJECT');
}

function acceptedMark([meta, bitwise, compare, verdict, ...others]: readonly Expression[]): number | undefined {
  if (verdict === undefined || others.length > 0 || verdictOf(verdict) !== NF_ACCEPT) return undefined;
  if (meta?.name !== 'meta' || word(meta.data.get(2)) !== NFT_META_MARK || bitwise?.name !== 'bitwise') return undefined;
  const mask = hostWord(nested(bitwise.data.get(4)).get(1));
  const isEqual = compare?.name === 'cmp' && word(compare.data.get(2)) === 0 && hostWord(nested(compare.data.get(3)).get(1)) === mask;
  return isEqual ? mask : undefined;
}

/** User data is a list of type, length and value. */
function commentOf(bytes: Uint8Array | undefined): string | undefined {
  for (let at = 0; bytes !== undefined && at + 2 <= bytes.length;) {
    const [type, length = 0] = [bytes[at], bytes[at + 1]];
    if (type === NFT_UDATA_RULE_COMMENT) return text(bytes.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return undefined;
}

/** Adds the rule that accepts packets with all bits of `mark`: before the rule `before`, or at the end. Throws KernelError. */
export function addMarkRule(
  chain: ForwardChain,
  { mark, comment, before }: { readonly mark: number; readonly comment: string; readonly before: bigint | undefined },
): void {
  const value = attribute(1, littleEndian(mark));
  const expression = (name: string, ...data: readonly Uint8Array[]): Uint8Array => nest(1, attribute(1, string(name)), nest(2, ...data));
  const expressions = [
    expression('meta', numbered(1, NFT_REG_1), numbered(2, NFT_META_MARK)),
    expression(
      'bitwise',
      numbered(1, NFT_REG_1),
      numbered(2, NFT_REG_1),
      numbered(3, 4),
      nest(4, value),
      nest(5, attribute(1, bigEndian(0))),
    ),
    expression('cmp', numbered(1, NFT_REG_1), numbered(2, 0), nest(3, value)),
    expression('counter'),
    expression('immediate', numbered(1, 0), nest(2, nest(2, numbered(1, NF_ACCEPT)))),
  ];
  const data = string(comment);
  const attributesOf = [
    ...[...chainAttributes(chain), nest(4, ...expressions)],
    ...(before === undefined ? [] : [attribute(6, longOf(before))]),
    attribute(7, Uint8Array.of(NFT_UDATA_RULE_COMMENT, data.length, ...data)),
  ];
  change(chain, { type: message.newRule, flags: NLM_F_CREATE | (before === undefined ? NLM_F_APPEND : 0), attributes: attributesOf });
}

/** Throws KernelError. */
export function deleteRule(chain: ForwardChain, handle: bigint): void {
  change(chain, { type: message.deleteRule, flags: 0, attributes: [...chainAttributes(chain), attribute(3, longOf(handle))] });
}

const longOf = (value: bigint): Uint8Array => new Uint8Array(new BigUint64Array([value]).buffer).reverse();

function change(
  { family, chain }: ForwardChain,
  { type, flags, attributes: parts }: { readonly type: number; readonly flags: number; readonly attributes: readonly Uint8Array[] },
): void {
  const body = Buffer.concat([header(families[family]), ...parts]);
  const limit = (kind: number) => ({ type: kind, flags: NLM_F_REQUEST, body: header(0, SUBSYSTEM) });
  const requests = [limit(BATCH_BEGIN), { type: typeOf(type), flags: NLM_F_REQUEST | NLM_F_ACK | flags, body }, limit(BATCH_END)];
  withSocket((socket) => socket.transaction(requests, `rule of the chain ${chain}`));
}
