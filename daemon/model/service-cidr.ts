// SPDX-License-Identifier: Apache-2.0
// ServiceCIDR row: address ranges that ClusterIPs are allocated from (networking.k8s.io/v1). Written by source/ only.

export interface ServiceCIDR {
  readonly name: string;
  /** The canonical CIDRs of spec.cidrs. */
  readonly cidrs: readonly string[];
}
