// SPDX-License-Identifier: Apache-2.0
// Explains what would happen to a packet: runs the read-only programs on it and reads the map entries that the programs recorded.
// It must never decide anything itself, so that the answer is what the datapath does. Used by the explain service and by dry
// runs.
import { ExitCode, ExitError } from '../base/errors.ts';
import { hostPort, parseAddress } from '../model/address.ts';
import { type DesiredPort, frontendKey } from '../model/frontend.ts';
import { DropReason, type LbExplain } from '../maps/gen/layouts.ts';
import { FrontendFlag, type LbMaps } from '../maps/types.ts';
import { frameOf } from './frame.ts';
import { Narrator } from './narrator.ts';
import type { ExplainPrograms } from './programs.ts';
import type { Explanation, ExplainedFrontend, Origin, PacketQuery } from '../model/explanation.ts';
import { protocolNumbers } from '../model/service.ts';

const TC_ACT_SHOT = 2;
/** Source port for a question without a source port. */
const ANY_PORT = 49_152;
/** ConnectRun.result: the address was rewritten. */
const SOCKET_REWRITE = 1;
/** Drops that are answered with a reset or an ICMP error. */
const refusals = ['DROP_NO_BACKEND', 'DROP_WRONG_PORT', 'DROP_NO_FLOW'];

interface ExplainerParts {
  readonly programs: Pick<ExplainPrograms, 'run' | 'connect'>;
  readonly maps: LbMaps;
  /** Key of the DesiredPort by service index. */
  readonly owners: () => ReadonlyMap<number, string>;
  readonly ports: (key: string) => DesiredPort | undefined;
  /** Origin of a source address, for a question without an origin. The address is canonical. */
  readonly originOf: (source: string) => Origin;
  /**
   * ifindex of the device through which the packet arrives; for a packet that the node itself sends, of the device through which
   * the packet leaves.
   */
  readonly deviceOf: (origin: Origin, source: string, iface: string | undefined) => number;
  /** Name of a device; undefined when the answer must not name devices. */
  readonly deviceName: (ifindex: number) => string | undefined;
  /** Whether a packet of this origin and device counts as one from a pod interface. */
  readonly isPodInterface: (origin: Origin, iface: string | undefined) => boolean;
  /** Socket hooks translate connect(). */
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

  /** Throws ExitError when an address is not valid or the two addresses are of different IP families. */
  explain(question: PacketQuery): Explanation {
    const ends = this.#ends(question);
    const socket = this.#parts.hasSocketLb && ends.origin !== 'external' ? this.#atSocket(question, ends) : undefined;
    return socket ?? this.#atDevice(question, ends);
  }

  #ends(question: PacketQuery): Ends {
    const [source, destination] = [parseAddress(question.sourceIP), parseAddress(question.destIP)];
    if (source === undefined) throw new ExitError(ExitCode.usage, `the source ${question.sourceIP} is not an IP address`);
    if (destination === undefined) throw new ExitError(ExitCode.usage, `the destination ${question.destIP} is not an IP address`);
    if (source.family !== destination.family)
      throw new ExitError(ExitCode.usage, `${question.sourceIP} and ${question.destIP} are of different IP families`);
    return { source: source.text, destination: destination.text, origin: question.from ?? this.#parts.originOf(source.text) };
  }

  /** Undefined when the socket hooks leave the packet to the tc programs. */
  #atSocket(question: PacketQuery, { destination, origin }: Ends): Explanation | undefined {
    // No socket hook translates SCTP.
    if (question.protocol === 'SCTP') return undefined;
    const four = !destination.includes(':');
    const { result, record } = this.#parts.programs.connect({
      ...{ address4: four ? destination : '0.0.0.0', address6: four ? '::' : destination, port: question.destPort },
      ...{ family: four ? 4 : 6, protocol: protocolNumbers[question.protocol] },
      // A UDP question is answered for sendto(), because the socket hooks leave a UDP connect() to the tc programs.
      ...{ isNode: origin === 'node' ? 1 : 0, isDatagram: question.protocol === 'UDP' ? 1 : 0 },
    });
    const isRefused = result === -DropReason.DROP_NO_BACKEND && question.protocol === 'TCP';
    if (result !== SOCKET_REWRITE && !isRefused) return undefined;
    const narrator = new Narrator(
      `the socket hook of ${origin === 'node' ? 'a node process' : 'a pod'} translates connect() before there is a packet`,
    );
    const frontend = this.#frontend(question, record);
    narrator.frontend(frontend, record);
    narrator.policy(record, undefined);
    if (isRefused) {
      const reason = 'the Service port has no usable endpoint, so connect() fails with ECONNREFUSED';
      return narrator.answer({ verdict: 'REJECT', frontend, reason });
    }
    const candidates = this.#candidates(record, destination);
    narrator.candidates(candidates, record);
    const backend = candidates.length === 1 ? (candidates[0] ?? null) : null;
    const which = backend ?? 'one of these backends';
    return narrator.answer({ verdict: 'DNAT', frontend, candidates, backend, reason: `the socket is translated to ${which}` });
  }

  #atDevice(question: PacketQuery, { source, destination, origin }: Ends): Explanation {
    const isPod = this.#parts.isPodInterface(origin, question.iface);
    const hook = origin === 'node' ? 'uplink_out' : isPod ? 'pod_in' : 'uplink_in';
    const frame = frameOf({
      ...{ protocol: question.protocol, source, destination, destinationPort: question.destPort },
      sourcePort: question.sourcePort === 0 ? ANY_PORT : question.sourcePort,
    });
    const { action, record } = this.#parts.programs.run(hook, frame, this.#parts.deviceOf(origin, source, question.iface));
    const narrator = new Narrator(`tc_${hook} processes a packet from ${originText[origin]}`);
    const frontend = this.#frontend(question, record);
    const drop = Object.entries(DropReason).find(([, number]) => number === record.drop)?.[0] ?? '';
    if (frontend !== null) narrator.frontend(frontend, record);
    if (record.isDecided !== 0) narrator.policy(record, origin);
    const isRefused = refusals.includes(drop);
    if (record.drop !== 0) {
      return narrator.answer({ verdict: isRefused ? 'REJECT' : 'DROP', frontend, drop, reason: narrator.reasonOf(drop) });
    }
    if (action === TC_ACT_SHOT)
      return narrator.answer({ verdict: 'DROP', frontend, reason: 'the packet is dropped and the program recorded no reason' });
    if (record.backendId === 0)
      return narrator.answer({
        ...{ verdict: 'NONE', frontend: null, reason: 'the destination is not a frontend, so the packet passes unchanged' },
      });
    const candidates = this.#candidates(record, destination);
    narrator.candidates(candidates, record);
    const backend = this.#backendText(record.backendId, destination);
    narrator.choice(backend, record, this.#parts.deviceName(record.dev));
    return narrator.answer({
      ...{ verdict: 'DNAT', frontend, candidates: record.isFlow === 0 ? candidates : [backend], backend },
      masquerade: record.isMasqueraded !== 0 || record.isHairpin !== 0,
      reason: record.isFlow === 0 ? `the packet is translated to ${backend}` : `the packet follows its open flow to ${backend}`,
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

  /** The backends of the set that the program used, as the maps hold them: "ip:port", sorted. */
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

const originText: Readonly<Record<Origin, string>> = { pod: 'a pod', node: 'the node', external: 'an external source' };
