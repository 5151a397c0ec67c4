// SPDX-License-Identifier: Apache-2.0
// The packet oracle: what should happen to the first packet of a flow, said from the desired rows alone. Packet tables run
// through it and through the kernel, and both must agree. It must stay simpler than the datapath that it judges.
import { type Address, hostPort, parseAddress } from '../model/address.ts';
import type { DesiredPort, Frontend } from '../model/frontend.ts';
import type { Protocol } from '../model/service.ts';

export interface TracePacket {
  readonly protocol: Protocol;
  readonly sourceIP: string;
  readonly sourcePort: number;
  readonly destIP: string;
  readonly destPort: number;
}

export interface Trace {
  /** NONE: not a frontend, the packet passes untouched. REJECT: a frontend without usable backends. */
  readonly verdict: 'DNAT' | 'REJECT' | 'NONE';
  /** Key of the desired port; undefined for NONE. */
  readonly port?: string;
  readonly frontend?: Frontend;
  /** Where it may go, as "address:port" in the order of the run; empty unless DNAT. */
  readonly candidates: readonly string[];
  /** The candidates that are the source itself: there the VIP becomes the source (design.md, 3.16). */
  readonly hairpin: readonly string[];
}

const untouched: Trace = { verdict: 'NONE', candidates: [], hairpin: [] };

/** Follows one packet through the desired rows, given as they come or as a map of them. */
export function trace(ports: Iterable<DesiredPort> | ReadonlyMap<string, DesiredPort>, packet: TracePacket): Trace {
  const destination = parseAddress(packet.destIP);
  if (destination === undefined) return untouched;
  const rows: Iterable<DesiredPort> = ports instanceof Map ? ports.values() : (ports as Iterable<DesiredPort>);
  for (const port of rows) {
    const frontend = port.frontends.find((candidate) => isHit(candidate, destination, packet));
    if (frontend !== undefined) return through(port, frontend, parseAddress(packet.sourceIP)?.text);
  }
  return untouched;
}

function isHit(frontend: Frontend, destination: Address, packet: TracePacket): boolean {
  return (
    frontend.family === destination.family &&
    frontend.address === destination.text &&
    frontend.port === packet.destPort &&
    frontend.protocol === packet.protocol
  );
}

function through(port: DesiredPort, frontend: Frontend, source: string | undefined): Trace {
  const usable = port.backends.filter((backend) => backend.isUsable);
  if (usable.length === 0) return { verdict: 'REJECT', port: port.key, frontend, candidates: [], hairpin: [] };
  const text = ({ address, port: number }: { address: string; port: number }): string => hostPort(address, number);
  return {
    verdict: 'DNAT',
    port: port.key,
    frontend,
    candidates: usable.map(text),
    hairpin: usable.filter((backend) => backend.address === source).map(text),
  };
}
