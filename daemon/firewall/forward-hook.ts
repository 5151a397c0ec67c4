// SPDX-License-Identifier: Apache-2.0
// Finds the chains of the forward hook that drop whatever no rule accepts, and says what that means for Services, with the command that
// mends it. Rules of kube-proxy accept masqueraded requests and their replies there, and Docker and others set the policy in the expectation of
// these rules. It cannot see whether other rules accept the same packets, nor rules in other hooks. Reads only.
import { type Check, CheckWarning } from '../base/check.ts';
import { KernelError, messageOf } from '../base/errors.ts';
import { legacyForward } from '../kernel/iptables-legacy.ts';
import { type ChainRule, type ForwardChain, forwardChains, rulesOf } from '../kernel/nftables.ts';
import { families, type Family } from '../model/address.ts';
import { FORWARD_MARK, forwardMarkText } from '../model/firewall.ts';

/** The comment by which the rule of --accept-forwarded is recognised. */
export const ownComment = 'sluice --accept-forwarded';

/** A chain of nftables, and what its rules say about packets with the mark. */
export interface NftChain {
  readonly chain: ForwardChain;
  /** The last rule if it drops all packets that reach it. */
  readonly lastDrop: ChainRule | undefined;
  /** True if the policy or the last rule drops what no rule accepts. */
  readonly isClosed: boolean;
  /** True if a rule accepts packets with the mark. */
  readonly isAccepted: boolean;
  readonly own: readonly ChainRule[];
}

/** The errors of a kernel without nftables. */
const absent: ReadonlySet<string> = new Set(['EPROTONOSUPPORT', 'EAFNOSUPPORT', 'EINVAL', 'EOPNOTSUPP']);
export const isAbsent = (error: unknown): boolean => error instanceof KernelError && absent.has(error.code);

export function inspected(chain: ForwardChain): NftChain {
  const rules = rulesOf(chain);
  const last = rules.at(-1);
  const lastDrop = last?.dropsAll === true ? last : undefined;
  return {
    ...{ chain, lastDrop, isClosed: chain.isPolicyDrop || lastDrop !== undefined },
    isAccepted: rules.some(({ acceptedMark }) => acceptedMark === FORWARD_MARK),
    own: rules.filter(({ comment }) => comment === ownComment),
  };
}

/** All chains of the forward hook, read at once. Throws KernelError. */
export function allChains(): NftChain[] {
  try {
    return [...forwardChains()].flatMap((part) => part ?? []).map(inspected);
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

export const chainText = ({ family, table, chain }: ForwardChain): string => `the chain ${chain} of the nftables table ${family} ${table}`;
const meaning = 'masqueraded requests to Services and their replies, which rules of kube-proxy accept, may be dropped there';

/** The problem of a chain that is closed and in which no rule accepts the mark. */
export function chainProblem({ chain, lastDrop }: NftChain): string {
  const { family, table, chain: name } = chain;
  const why =
    lastDrop === undefined ? `the policy of ${chainText(chain)} is drop` : `the last rule of ${chainText(chain)} drops all packets`;
  const open = lastDrop === undefined ? `, or run: nft chain ${family} ${table} ${name} '{ policy accept; }'` : '';
  return `${why}, so ${meaning}: set --accept-forwarded on, which adds one rule${open}`;
}

const tools: Readonly<Record<Family, string>> = { IPv4: 'iptables-legacy', IPv6: 'ip6tables-legacy' };

/** One message for each family whose older tables drop the packets. sluiced adds no rule there. */
export function legacyProblems(isAccepting: boolean): string[] {
  return families.flatMap((family) => {
    const found = legacyForward(family);
    if (found === undefined || !found.isPolicyDrop || (isAccepting && found.acceptedMarks.includes(FORWARD_MARK))) return [];
    const tool = tools[family];
    const rule = `${tool} -A FORWARD -m mark --mark ${forwardMarkText}/${forwardMarkText} -j ACCEPT`;
    const remedy = isAccepting
      ? `run: ${rule}`
      : `set --accept-forwarded on, which marks them, and run: ${rule}; or run: ${tool} -P FORWARD ACCEPT`;
    return [`the policy of the chain FORWARD of ${tool} is drop, so ${meaning}: ${remedy}`];
  });
}

/** The check of `sluice preflight`. */
export const forwardCheck = ({ acceptForwarded }: { readonly acceptForwarded: boolean }): Check => ({
  name: 'firewall',
  run: () => {
    let chains: readonly NftChain[];
    let legacy: readonly string[];
    try {
      [chains, legacy] = [allChains(), legacyProblems(acceptForwarded)];
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      throw new CheckWarning(`the rules of netfilter cannot be read: ${messageOf(error)}`);
    }
    const closed = chains.filter(({ isClosed }) => isClosed);
    const problems = [...(acceptForwarded ? [] : closed.map(chainProblem)), ...legacy];
    if (problems.length > 0) throw new CheckWarning(problems.join('; '));
    if (closed.length === 0) return 'no chain of the forward hook has the policy drop';
    return `sluiced will accept translated packets in ${closed.map(({ chain }) => chainText(chain)).join(', ')}`;
  },
});
