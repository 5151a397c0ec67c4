// SPDX-License-Identifier: Apache-2.0
// ServiceCIDR row: address ranges that ClusterIPs are allocated from (networking.k8s.io/v1). Written by source/ only.
import { cidrContains } from './address.ts';

export interface ServiceCIDR {
  readonly name: string;
  /** The canonical CIDRs of spec.cidrs. */
  readonly cidrs: readonly string[];
}

/** Addresses that packets must reach although no Service has them. */
export interface OtherAddresses {
  /** Addresses of this node. */
  readonly own: readonly string[];
  /** Canonical CIDRs of pods. */
  readonly pods: readonly string[];
}

/**
 * The problem with a canonical Service CIDR that contains addresses of this node or of pods; undefined if there is none. The datapath drops
 * packets to an address of a Service CIDR that no Service has.
 */
export function serviceCidrProblem(cidr: string, { own, pods }: OtherAddresses): string | undefined {
  const address = own.find((each) => cidrContains(cidr, each));
  const range = pods.find((each) => cidrContains(cidr, startOf(each)) || cidrContains(each, startOf(cidr)));
  if (!cidr.endsWith('/0') && address === undefined && range === undefined) return undefined;
  const overlap =
    address !== undefined
      ? `contains ${address}, an address of this node`
      : range !== undefined
        ? `overlaps the pod addresses ${range}`
        : 'contains every address of its family';
  return `the Service CIDR ${cidr} ${overlap}, and packets of pods to addresses in it that no Service has are dropped: correct --service-cidr or the ServiceCIDR object`;
}

const startOf = (cidr: string): string => cidr.split('/')[0] ?? '';
