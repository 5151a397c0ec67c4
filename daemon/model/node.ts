// SPDX-License-Identifier: Apache-2.0
// Node row: the fields of a Node object that this agent uses. Written by source/ only.

export interface Node {
  readonly name: string;
  /** Canonical IP addresses of status.addresses: InternalIP before ExternalIP, otherwise in the order of the object. */
  readonly addresses: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Canonical CIDRs of spec.podCIDRs. */
  readonly podCIDRs: readonly string[];
  /** The Node has a deletionTimestamp or the taint ToBeDeletedByClusterAutoscaler (test/README.md, 12). */
  readonly isLeaving: boolean;
}

/** The message about a node name that no Node object has. */
export const missingNode = (name: string): string =>
  `there is no Node named ${name}, so its zone and podCIDRs are unknown, its addresses are taken from the devices of the host, and only endpoints whose nodeName is ${name} count as local: set --node to the name of this node's Node object, or create that object`;
