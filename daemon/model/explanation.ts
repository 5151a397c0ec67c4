// SPDX-License-Identifier: Apache-2.0
// What is asked and what is answered: the contract of `sluice explain`, of the API and of its JSON. Types only.
import type { FrontendType, Scope } from './frontend.ts';
import type { Protocol } from './service.ts';

/** Where a packet comes from, seen from this node. */
export type Origin = 'pod' | 'node' | 'external';

/** The first packet of a flow. */
export interface Question {
  readonly protocol: Protocol;
  readonly sourceIP: string;
  /** 0: any; one is made up. */
  readonly sourcePort: number;
  readonly destIP: string;
  readonly destPort: number;
  readonly from?: Origin | undefined;
  /** Device by which it comes. */
  readonly iface?: string | undefined;
}

/** One decision, and the map entry it rested on ("" when none). */
export interface Step {
  readonly step: 'hook' | 'flow' | 'frontend' | 'source ranges' | 'policy' | 'affinity' | 'backend' | 'masquerade' | 'route' | 'verdict';
  readonly text: string;
  readonly entry: string;
}

export interface ExplainedFrontend {
  /** "10.96.0.10:80/TCP". */
  readonly frontend: string;
  /** "namespace/name:portName"; "" when no Service of ours is known for it. */
  readonly service: string;
  readonly type: FrontendType | '';
  readonly scope: Scope;
}

export interface Answer {
  /** NONE: not ours, it passes untouched. */
  readonly verdict: 'DNAT' | 'REJECT' | 'DROP' | 'NONE';
  readonly frontend: ExplainedFrontend | null;
  /** "ip:port" of every backend that the packet could have been given, sorted. */
  readonly candidates: readonly string[];
  /** Null when the answer hangs on what the packet does not say. */
  readonly backend: string | null;
  /** The source is rewritten. */
  readonly masquerade: boolean;
  readonly reason: string;
  readonly steps: readonly Step[];
}
