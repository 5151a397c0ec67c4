// SPDX-License-Identifier: Apache-2.0
// Keys and values of the load balancer's maps, made from desired rows, and the meaning of their fields. Pure: it must never read or
// write a map. Used by services/apply/ to write rows, and by maps/read/ and the status to interpret them.
import { hostPort } from '../model/address.ts';
import { type Frontend, scopeOf } from '../model/frontend.ts';
import { protocolNumbers } from '../model/service.ts';
import { FrontendFlag, type FrontendMapKey, type Range, type RangeMapKey, type ServiceMapValue } from './types.ts';

/** The map key of a desired frontend. */
export function mapKeyOf(frontend: Frontend): FrontendMapKey {
  const { address, port, protocol } = frontend;
  return { address, port, protocol: protocolNumbers[protocol] };
}

/** Text of a map key: "10.96.0.10:80/TCP", as frontendKey() makes it; "unknown-N" for a protocol that no frontend can have. */
export function mapKeyText({ address, port, protocol }: FrontendMapKey): string {
  const name = Object.entries(protocolNumbers).find(([, number]) => number === protocol)?.[0] ?? `unknown-${protocol}`;
  return `${hostPort(address, port)}/${name}`;
}

/** The FrontendFlag bits of a desired frontend. */
export function flagsOf(frontend: Frontend): number {
  const { external, local, ranges, nodePort } = FrontendFlag;
  return (
    (scopeOf(frontend) === 'external' ? external : 0) |
    (frontend.policy === 'Local' ? local : 0) |
    (frontend.hasSourceRanges ? ranges : 0) |
    (frontend.type === 'NodePort' ? nodePort : 0)
  );
}

/** Text of FrontendFlag bits: "internal", "external local ranges". */
export function flagsText(flags: number): string {
  const { external, local, ranges, nodePort } = FrontendFlag;
  const words = Object.entries({ local, ranges, 'node-port': nodePort }).filter(([, bit]) => (flags & bit) !== 0);
  return [(flags & external) === 0 ? 'internal' : 'external', ...words.map(([name]) => name)].join(' ');
}

const stateMask = 0xff;

/** The BackendState bits in BackendMapValue.meta. */
export const stateOf = (meta: number): number => meta & stateMask;
/** The generation in BackendMapValue.meta. */
export const generationOf = (meta: number): number => meta >>> 8;

/** Whether a row of lb_services is not all zeros. */
export const isInUse = (row: ServiceMapValue): boolean =>
  row.base !== 0 || row.count !== 0 || row.localBase !== 0 || row.localCount !== 0 || row.affinity !== 0;

export const isSameService = (a: ServiceMapValue, b: ServiceMapValue): boolean =>
  a.base === b.base && a.count === b.count && a.localBase === b.localBase && a.localCount === b.localCount && a.affinity === b.affinity;

/** The range of slots that contains both sets of a row. */
export function slotRangeOf(row: ServiceMapValue): Range {
  const sets = [
    { base: row.base, count: row.count },
    { base: row.localBase, count: row.localCount },
  ].filter((set) => set.count > 0);
  const base = Math.min(...sets.map((set) => set.base));
  return sets.length === 0 ? { base: row.base, count: 0 } : { base, count: Math.max(...sets.map((set) => set.base + set.count)) - base };
}

/** The trie key of a CIDR in the address set with this number. */
export function rangeMapKey(set: number, cidr: string): RangeMapKey {
  const [address = '', length = ''] = cidr.split('/');
  return { prefix: 32 + Number(length), set, address };
}

/** The CIDR of a trie key: "10.0.0.0/8". */
export const cidrText = ({ address, prefix }: RangeMapKey): string => `${address}/${prefix - 32}`;
