// SPDX-License-Identifier: Apache-2.0
// Whether this network namespace has rules of policy routing that select a table by the source of a packet (`ip rule from`). It must never
// change a rule. Called by source/netlink/.
import type { KernelError } from '../base/errors.ts';
import { NetlinkSocket } from './netlink.ts';

const RTM_GETRULE = 34;
/** RTNLGRP_IPV4_RULE is 8, RTNLGRP_IPV6_RULE is 19. */
const RULE_GROUPS = (1 << 7) | (1 << 18);
const families = { IPv4: 2, IPv6: 10 } as const;
type Family = keyof typeof families;

/** The families with a rule that names a source. Throws KernelError. */
export function familiesWithSourceRules(): Set<Family> {
  const socket = new NetlinkSocket();
  try {
    const hasRule = (family: Family): boolean => {
      // struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved bytes, action, flags.
      const body = new Uint8Array(12);
      body[0] = families[family];
      return socket.dump(RTM_GETRULE, body, 'routing rules').some((message) => (message.body[2] ?? 0) > 0);
    };
    return new Set((['IPv4', 'IPv6'] as const).filter(hasRule));
  } finally {
    socket.close();
  }
}

/** Reports that a rule was added or removed. The caller then calls familiesWithSourceRules() again. */
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
