// SPDX-License-Identifier: Apache-2.0
// Counts the SYNs that a namespace has retransmitted. A connection that is answered or refused at its first packet causes no
// retransmission, even on a busy machine, because a SYN is retransmitted after one second at the earliest.
import type { Lab } from './lab.ts';

/** SYN and SYN-ACK segments that the namespace has sent again since it was made. */
export function repeatedSyns(lab: Lab, netns: string): number {
  const [names, values] = lab
    .run(netns, 'cat', '/proc/net/netstat')
    .split('\n')
    .filter((line) => line.startsWith('TcpExt:'))
    .map((line) => line.split(' '));
  const at = names?.indexOf('TCPSynRetrans') ?? -1;
  const value = Number(values?.[at]);
  if (at < 0 || Number.isNaN(value)) throw new Error('/proc/net/netstat has no TCPSynRetrans');
  return value;
}
