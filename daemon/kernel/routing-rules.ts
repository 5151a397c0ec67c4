// SPDX-License-Identifier: Apache-2.0
// The rules of policy routing of this network namespace (`ip rule`), as far as others must know them: whether there is a rule that selects
// packets, and one that selects them by their source. It must never change a rule. Called by source/netlink/.
import { KernelError } from '../base/errors.ts';
import { attributes, NetlinkSocket } from './netlink.ts';

const RTM_GETRULE = 34;
/** RTNLGRP_IPV4_RULE is 8, RTNLGRP_IPV6_RULE is 19. */
const RULE_GROUPS = (1 << 7) | (1 << 18);
const FIB_RULE_INVERT = 2;
/** FRA_*: incoming device, goto, mark, realm, tunnel, mask, outgoing device, user, protocol, ports. The rule of VRFs has none of these. */
const selectors = [3, 4, 10, 11, 12, 16, 17, 20, 22, 23, 24];

export interface RuleFacts {
  /** A rule selects packets by something: their addresses, mark, device and so on. */
  readonly hasSelector: boolean;
  /** A rule selects packets by their source. */
  readonly hasSource: boolean;
}

/** `family`: AF_INET or AF_INET6. A family that the kernel does not have has no rules. Throws KernelError. */
export function ruleFacts(family: 2 | 10): RuleFacts {
  const socket = new NetlinkSocket();
  try {
    // struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved bytes, action, flags.
    const body = new Uint8Array(12);
    body[0] = family;
    const rules = socket.dump(RTM_GETRULE, body, 'routing rules').map((message) => message.body);
    return { hasSelector: rules.some(isSelective), hasSource: rules.some((rule) => (rule[2] ?? 0) > 0) };
  } catch (error) {
    // With ipv6.disable=1, or without policy routing in the kernel.
    if (error instanceof KernelError && ['EAFNOSUPPORT', 'EOPNOTSUPP'].includes(error.code))
      return { hasSelector: false, hasSource: false };
    throw error;
  } finally {
    socket.close();
  }
}

function isSelective(rule: Uint8Array): boolean {
  const [, destination = 0, source = 0, tos = 0] = rule;
  const found = attributes(rule.subarray(12));
  return destination + source + tos > 0 || ((rule[8] ?? 0) & FIB_RULE_INVERT) !== 0 || selectors.some((type) => found.has(type));
}

/** Reports that a rule was added or removed. The caller then calls ruleFacts() again. */
export class RuleMonitor {
  readonly #socket = new NetlinkSocket(RULE_GROUPS);

  /** `onLost` as in LinkMonitor. */
  listen(onChange: () => void, onLost: (reason: KernelError) => void): void {
    this.#socket.listen(onChange, onLost);
  }

  close(): void {
    this.#socket.close();
  }
}
