// SPDX-License-Identifier: Apache-2.0
// Answers what would happen to a packet by running the twins of the programs on it and reading the map entries that they
// name. It must never decide anything itself: what it says is what the kernel did. Used by the API and by dry runs.
import { ExitCode, ExitError } from '../base/errors.ts';
import { hostPort, parseAddress } from '../model/address.ts';
import { type DesiredPort, frontendKey } from '../model/frontend.ts';
import { DropReason, type LbConnect, type LbExplain } from '../maps/gen/layouts.ts';
import { FrontendFlag, type LbMaps } from '../maps/types.ts';
import { frameOf } from './frame.ts';
import { Narrator } from './narrator.ts';
import type { Explanation, ExplainedFrontend, Origin, PacketQuery } from '../model/explanation.ts';
import { protocolNumbers } from '../model/service.ts';

const TC_ACT_SHOT = 2;
const ANY_PORT = 49_152;
const SOCKET_REWRITE = 1;
const refusals = ['DROP_NO_BACKEND', 'DROP_WRONG_PORT', 'DROP_NO_FLOW'];

/** The programs to run: loader/twins.ts. */
export interface TwinPrograms {
  run(
    hook: 'pod_in' | 'uplink_in' | 'uplink_out',
    frame: Uint8Array,
    ifindex: number,
  ): { readonly action: number; readonly record: LbExplain };
  connect(call: LbConnect): { readonly result: number; readonly record: LbExplain };
}

export interface ExplainerParts {
  readonly twins: TwinPrograms;
  readonly maps: LbMaps;
  /** Key of the DesiredPort by service index. */
  readonly owners: () => ReadonlyMap<number, string>;
  readonly ports: (key: string) => DesiredPort | undefined;
  /** Where a source is, when the question does not say. Canonical address. */
  readonly originOf: (source: string) => Origin;
  /** The device that such a packet comes in by, or leaves by. */
  readonly deviceOf: (origin: Origin, source: string, iface: string | undefined) => number;
  /** Its name; undefined where devices mean nothing. */
  readonly deviceName: (ifindex: number) => string | undefined;
  /** Is a packet of that origin and device taken for one from a pod's interface? */
  readonly isPodInterface: (origin: Origin, iface: string | undefined) => boolean;
  /** connect() is translated in the socket hooks. */
  readonly hasSocketLb: boolean;
}

interface Ends {
  readonly source: string;
  readonly destination: string;
  readonly origin: Origin;
}

export class Explainer {
  readonly #parts: ExplainerParts;

  constructor(parts: ExplainerParts) {
    this.#parts = parts;
  }

  /** Throws ExitError for addresses that are none or of two families. */
  explain(question: PacketQuery): Explanation {
    const ends = this.#ends(question);
    const socket = this.#parts.hasSocketLb && ends.origin !== 'external' ? this.#askSocket(question, ends) : undefined;
    return socket ?? this.#askDevice(question, ends);
  }

  #ends(question: PacketQuery): Ends {
    const [source, destination] = [parseAddress(question.sourceIP), parseAddress(question.destIP)];
    if (source === undefined) throw new ExitError(ExitCode.usage, `the source ${question.sourceIP} is no IP address`);
    if (destination === undefined) throw new ExitError(ExitCode.usage, `the destination ${question.destIP} is no IP address`);
    if (source.family !== destination.family)
      throw new ExitError(ExitCode.usage, `${question.sourceIP} and ${question.destIP} are of two families`);
    return { source: source.text, destination: destination.text, origin: question.from ?? this.#parts.originOf(source.text) };
  }

  /** Undefined when the socket hooks leave the packet to tc. */
  #askSocket(question: PacketQuery, { destination, origin }: Ends): Explanation | undefined {
    // SCTP has no socket hook of ours.
    if (question.protocol === 'SCTP') return undefined;
    const four = !destination.includes(':');
    const { result, record } = this.#parts.twins.connect({
      ...{ address4: four ? destination : '0.0.0.0', address6: four ? '::' : destination, port: question.destPort },
      ...{ family: four ? 4 : 6, protocol: protocolNumbers[question.protocol] },
      // A UDP connect() is left to tc; its sendto() is not.
      ...{ isNode: origin === 'node' ? 1 : 0, isDatagram: question.protocol === 'UDP' ? 1 : 0 },
    });
    const isRefused = result === -DropReason.DROP_NO_BACKEND && question.protocol === 'TCP';
    if (result !== SOCKET_REWRITE && !isRefused) return undefined;
    const narrator = new Narrator(
      `socket hook of ${origin === 'node' ? 'a node process' : 'a pod'}: connect() is translated before there is a packet`,
    );
    const frontend = this.#frontend(question, record);
    narrator.frontend(frontend, record);
    narrator.policy(record, undefined);
    if (isRefused)
      return narrator.answer({ verdict: 'REJECT', frontend, reason: 'no usable endpoint anywhere: connect() fails with ECONNREFUSED' });
    const candidates = this.#candidates(record, destination);
    narrator.candidates(candidates, record);
    const backend = candidates.length === 1 ? (candidates[0] ?? null) : null;
    const which = backend ?? 'one of them, by the socket';
    return narrator.answer({ verdict: 'DNAT', frontend, candidates, backend, reason: `translated at the socket to ${which}` });
  }

  #askDevice(question: PacketQuery, { source, destination, origin }: Ends): Explanation {
    const isPod = this.#parts.isPodInterface(origin, question.iface);
    const hook = origin === 'node' ? 'uplink_out' : isPod ? 'pod_in' : 'uplink_in';
    const frame = frameOf({
      ...{ protocol: question.protocol, source, destination, destinationPort: question.destPort },
      sourcePort: question.sourcePort === 0 ? ANY_PORT : question.sourcePort,
    });
    const { action, record } = this.#parts.twins.run(hook, frame, this.#parts.deviceOf(origin, source, question.iface));
    const narrator = new Narrator(`tc_${hook}: a packet from ${origin === 'external' ? 'outside' : `a ${origin}`}`);
    const frontend = this.#frontend(question, record);
    const drop = Object.entries(DropReason).find(([, number]) => number === record.drop)?.[0] ?? '';
    if (frontend !== null) narrator.frontend(frontend, record);
    if (record.isDecided !== 0) narrator.policy(record, origin);
    const isRefused = refusals.includes(drop);
    if (record.drop !== 0) {
      return narrator.answer({ verdict: isRefused ? 'REJECT' : 'DROP', frontend, drop, reason: narrator.reasonOf(drop) });
    }
    if (action === TC_ACT_SHOT) return narrator.answer({ verdict: 'DROP', frontend, reason: 'dropped without a reason' });
    if (record.backendId === 0) return narrator.answer({ verdict: 'NONE', frontend: null, reason: 'not a frontend: it passes untouched' });
    const candidates = this.#candidates(record, destination);
    narrator.candidates(candidates, record);
    const backend = this.#backendText(record.backendId, destination);
    narrator.choice(backend, record, this.#parts.deviceName(record.dev));
    return narrator.answer({
      ...{ verdict: 'DNAT', frontend, candidates: record.isFlow === 0 ? candidates : [backend], backend },
      masquerade: record.isMasqueraded !== 0 || record.isHairpin !== 0,
      reason: record.isFlow === 0 ? `translated to ${backend}` : `an open flow goes on to ${backend}`,
    });
  }

  #frontend(question: PacketQuery, record: LbExplain): ExplainedFrontend | null {
    if (record.service === 0) return null;
    const address = parseAddress(question.destIP)?.text ?? question.destIP;
    const key = frontendKey({ address, port: question.destPort, protocol: question.protocol });
    const port = this.#parts.ports(this.#parts.owners().get(record.service) ?? '');
    const wanted = port?.frontends.find((each) => frontendKey(each) === key);
    const isExternal = (record.flags & FrontendFlag.external) !== 0;
    return {
      frontend: key,
      service: port === undefined ? '' : `${port.namespace}/${port.name}:${port.portName}`,
      type: wanted?.type ?? '',
      scope: isExternal ? 'external' : 'internal',
    };
  }

  /** The set that was asked, from the maps: "ip:port", sorted. */
  #candidates(record: LbExplain, destination: string): string[] {
    if (record.service === 0) return [];
    const row = this.#parts.maps.services.get(record.service);
    const run = record.isLocal === 0 ? row : { base: row.localBase, count: row.localCount };
    return [...new Set(this.#parts.maps.slots.read(run.base, run.count))].map((id) => this.#backendText(id, destination)).sort();
  }

  #backendText(id: number, destination: string): string {
    const { address, port } = this.#parts.maps.backends[destination.includes(':') ? 'IPv6' : 'IPv4'].get(id);
    return hostPort(address, port);
  }
}
