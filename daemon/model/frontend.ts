// SPDX-License-Identifier: Apache-2.0
// Desired rows: what the datapath should do. Written by controller/ only; reconcile/ makes it so; api/ shows it.
import { type Family, hostPort } from './address.ts';
import type { Protocol } from './service.ts';

/** Which policy's backends a look-up wants. ClusterIPs are internal. */
export type Scope = 'internal' | 'external';

/** One VIP:port/protocol by which a Service is reached. */
export interface Frontend {
  readonly address: string;
  readonly family: Family;
  readonly port: number;
  readonly protocol: Protocol;
  readonly scope: Scope;
}

export interface Backend {
  readonly address: string;
  readonly port: number;
  /** In the set that internal or cluster-wide traffic is spread over: these, and only these, are in the run. */
  readonly isUsable: boolean;
  /** On this node. */
  readonly isLocal: boolean;
  readonly isServing: boolean;
}

/**
 * One Service port in one family: the unit that reconcile/ realizes (one service index, one run of slots).
 * `frontends` holds only those this port owns (another Service may hold a contested VIP);
 * `backends` is sorted by address and port and holds every endpoint, usable or not, since old flows ask for them.
 */
export interface DesiredPort {
  /** "namespace/name:portName/TCP/IPv4". */
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly portName: string;
  readonly protocol: Protocol;
  readonly family: Family;
  readonly frontends: readonly Frontend[];
  readonly backends: readonly Backend[];
}

/** "10.96.0.10:80/TCP": how people, dumps and logs name a frontend. */
export const frontendText = (f: Pick<Frontend, 'address' | 'port' | 'protocol'>): string => `${hostPort(f.address, f.port)}/${f.protocol}`;

/** Key of a frontend in tables: text plus scope. */
export const frontendKey = (f: Frontend): string => `${frontendText(f)}/${f.scope}`;
