// SPDX-License-Identifier: Apache-2.0
// Questions and answers of `sluice explain`: the contract of the command, of the API and of its JSON. Types only. Used by explain/, api/,
// cli/ and offline/.
import type { FrontendType, Scope } from './frontend.ts';
import type { Protocol } from './service.ts';

/** Where a packet comes from: a pod of this node, the node itself, or any other source. */
export type Origin = 'pod' | 'node' | 'external';

/** A packet: the first one of a flow. */
export interface Question {
  readonly protocol: Protocol;
  readonly sourceIP: string;
  /** 0: any port. */
  readonly sourcePort: number;
  readonly destIP: string;
  readonly destPort: number;
  /** Default: derived from the source address. */
  readonly from?: Origin | undefined;
  /** Name of the device through which the packet arrives. */
  readonly iface?: string | undefined;
}

/** One decision of a program. */
export interface Step {
  readonly step: 'hook' | 'flow' | 'frontend' | 'source ranges' | 'policy' | 'affinity' | 'backend' | 'masquerade' | 'route' | 'verdict';
  readonly text: string;
  /** The map entry behind the decision; "" when there is none. */
  readonly entry: string;
}

export interface ExplainedFrontend {
  /** "10.96.0.10:80/TCP". */
  readonly frontend: string;
  /** "namespace/name:portName"; "" when the Service is unknown. */
  readonly service: string;
  readonly type: FrontendType | '';
  readonly scope: Scope;
}

export interface Answer {
  /** NONE: the destination is not a frontend, and the packet passes unchanged. */
  readonly verdict: 'DNAT' | 'REJECT' | 'DROP' | 'NONE';
  readonly frontend: ExplainedFrontend | null;
  /** "ip:port" of every eligible backend, sorted. */
  readonly candidates: readonly string[];
  /** Null when the verdict is not DNAT, and when a socket hook chooses one of several candidates. */
  readonly backend: string | null;
  /** The source address is rewritten. */
  readonly masquerade: boolean;
  readonly reason: string;
  readonly steps: readonly Step[];
}
