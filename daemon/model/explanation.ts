// SPDX-License-Identifier: Apache-2.0
// Query and result of `sluice explain`: the contract of the command's JSON and of the API. Types only. api/, cli/, offline/ and
// explain/ use them; a change here changes the public output.
import type { FrontendType, Scope } from './frontend.ts';
import type { Protocol } from './service.ts';

/** Where a packet comes from: a pod of this node, the node itself, or any other source. */
export type Origin = 'pod' | 'node' | 'external';

/** The system call by which a process sends the packet. The socket hooks treat connect() and sendto() differently. */
export type SocketCall = 'connect' | 'sendto';

/** The first packet of a flow, as the user describes it. */
export interface PacketQuery {
  readonly protocol: Protocol;
  readonly sourceIP: string;
  /** 0 means that the port does not matter; explain then uses a port of its own. */
  readonly sourcePort: number;
  /** "" if destService is given. */
  readonly destIP: string;
  /** 0 if destService is given. */
  readonly destPort: number;
  /** Service and port instead of address and port: "web.default:http" or "default/web:80". */
  readonly destService?: string | undefined;
  /** Default: derived from the source address. */
  readonly from?: Origin | undefined;
  /** Name of the device that receives the packet. */
  readonly iface?: string | undefined;
  /** The system call of the sender, only for packets of pods and of the node. Default: connect for TCP, sendto for UDP. */
  readonly call?: SocketCall | undefined;
}

/** One decision, and the map entry that it is based on ("" when there is none). */
export interface Step {
  readonly step:
    | 'destination'
    | 'hook'
    | 'flow'
    | 'frontend'
    | 'source ranges'
    | 'policy'
    | 'affinity'
    | 'backend'
    | 'masquerade'
    | 'route'
    | 'verdict';
  readonly text: string;
  /** The map entry behind the decision; "" when there is none. */
  readonly entry: string;
}

export interface ExplainedFrontend {
  /** "10.96.0.10:80/TCP". */
  readonly frontend: string;
  /** "namespace/name:portName"; "" when the owning Service is unknown. */
  readonly service: string;
  readonly type: FrontendType | '';
  readonly scope: Scope;
}

export interface Explanation {
  /** NONE: the packet passes unchanged, because no frontend matches or no program processes it. */
  readonly verdict: 'DNAT' | 'REJECT' | 'DROP' | 'NONE';
  readonly frontend: ExplainedFrontend | null;
  /** "ip:port" of the backends that could be selected, sorted. Limited in number. */
  readonly candidates: readonly string[];
  /** Number of backends that could be selected and that `candidates` leaves out. */
  readonly moreCandidates: number;
  /** Null when the selection depends on something that the query does not contain. */
  readonly backend: string | null;
  /** True when the source address is rewritten. */
  readonly masquerade: boolean;
  readonly reason: string;
  readonly steps: readonly Step[];
}
