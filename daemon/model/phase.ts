// SPDX-License-Identifier: Apache-2.0
// Which connections the datapath serves while Sluice takes over a node from kube-proxy, or kube-proxy from Sluice.

/**
 * serving: all connections. migrating: all except those that kube-proxy has opened, which pass untouched. draining: the connections that are
 * open; new ones pass untouched.
 */
export type Phase = 'serving' | 'migrating' | 'draining';

/** The flows that end when the programs are removed, counted by protocol. */
export interface OpenFlows {
  readonly tcp: number;
  readonly udp: number;
  readonly sctp: number;
}
