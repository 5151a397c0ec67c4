// SPDX-License-Identifier: Apache-2.0
// Explains what would happen to a packet: runs the read-only programs on it and reads the map entries that the programs recorded.
// It must never decide anything itself, so that the answer is what the datapath does. Used by the explain service and by dry
// runs.
import { ExitCode, ExitError } from '../base/errors.ts';
import { type Family, hostPort, parseAddress } from '../model/address.ts';
import { type DesiredPort, frontendKey } from '../model/frontend.ts';
import { DropReason, type LbExplain } from '../maps/gen/layouts.ts';
import { FrontendFlag, type LbMaps } from '../maps/types.ts';
import { resolveDestination } from './destination.ts';
import { frameOf } from './frame.ts';
import { type Candidates, Narrator } from './narrator.ts';
import type { ConnectRun, ExplainPrograms, PacketHook } from './programs.ts';
import type { Explanation, ExplainedFrontend, Origin, PacketQuery, SocketCall } from '../model/explanation.ts';
import { protocolNumbers, type Service } from '../model/service.ts';

const TC_ACT_SHOT = 2;
/** Source port for a question without a source port. */
const ANY_PORT = 49_152;
/** Value of ConnectRun.result that means that the address was rewritten. */
const SOCKET_REWRITE = 1;
/** Drop reasons whose packets are answered with a reset or an ICMP error. */
const refusals = ['DROP_NO_BACKEND', 'DROP_WRONG_PORT', 'DROP_NO_FLOW'];

/**
 * Maximum number of candidates in an answer; see Explanation in proto/sluice/v1. Because of the limit, the cost of an answer does not
 * depend on the size of the Service.
 */
const maxCandidates = 100;

/** A UDP connect() of a process of the node: whether the socket hook translates it depends on the backend that it selects. */
const isUdpConnect = ({ protocol, call }: PacketQuery, origin: Origin): boolean =>
  origin === 'node' && protocol === 'UDP' && call === 'connect';

interface ExplainerParts {
  readonly programs: Pick<ExplainPrograms, 'run' | 'connect'>;
  readonly maps: LbMaps;
  /** Key of the DesiredPort by service index. */
  readonly owners: () => ReadonlyMap<number, string>;
  readonly ports: (key: string) => DesiredPort | undefined;
  /** Service by "namespace/name", for a destination that is given by name. */
  readonly service: (key: string) => Service | undefined;
  /** Origin of a source address, for a question without an origin. The address is canonical. */
  readonly originOf: (source: string) => Origin;
  /**
   * The device through which the packet arrives; for a packet that the node itself sends, the device through which it leaves.
   * Throws ExitError for a device that does not exist.
   */
  readonly deviceOf: (question: DeviceQuestion) => PacketDevice;
  /** Name of a device; undefined when the answer must not name devices. */
  readonly deviceName: (ifindex: number) => string | undefined;
  /** Whether a packet of this origin and device counts as one from a pod interface. */
  readonly isPodInterface: (origin: Origin, iface: string | undefined) => boolean;
  readonly sockets: SocketHooks;
}

export interface DeviceQuestion {
  readonly origin: Origin;
  readonly source: string;
  readonly destination: string;
  readonly iface: string | undefined;
  readonly hook: PacketHook;
}

export interface PacketDevice {
  readonly ifindex: number;
  /** The program that processes the packet on this device, such as "tc_uplink_in". */
  readonly program: string;
  /** Why the program of the hook does not process the packet: "no program is attached to eth1: ...". */
  readonly problem: string | undefined;
}

/**
 * 'attached': the socket hooks translate calls. 'on request': the answer assumes that they do if the question names a call. `problem`: why
 * they do not translate, such as "--socket-lb is off".
 */
export type SocketHooks = 'attached' | 'on request' | { readonly problem: string };

interface Ends {
  readonly source: string;
  readonly destination: string;
  readonly origin: Origin;
  /** Describes the Service and port that the name of the destination stands for; undefined for a destination without a name. */
  readonly named: string | undefined;
}

export class Explainer {
  readonly #parts: ExplainerParts;

  constructor(parts: ExplainerParts) {
    this.#parts = parts;
  }

  /** Throws ExitError when an address, the name of the destination or the device is not valid. */
  explain(given: PacketQuery): Explanation {
    const { question, ends } = this.#resolved(given);
    const narrator = new Narrator();
    if (ends.named !== undefined) narrator.destination(ends.named);
    return this.#atSocket(question, ends, narrator) ?? this.#atDevice(question, ends, narrator);
  }

  #resolved(question: PacketQuery): { question: PacketQuery; ends: Ends } {
    const source = parseAddress(question.sourceIP);
    if (source === undefined) throw usage(`the source ${question.sourceIP} is not an IP address`);
    const origin = question.from ?? this.#parts.originOf(source.text);
    if (question.call !== undefined && origin === 'external')
      throw usage(`${question.call}() is a call of a pod or of the node, and the source ${question.sourceIP} is external`);
    if (question.call === 'sendto' && question.protocol !== 'UDP') throw usage('sendto() is possible for UDP only');
    if (question.destService === undefined)
      return { question, ends: { ...destinationOf(question, source.family), source: source.text, origin, named: undefined } };
    const { address, port, text } = resolveDestination(question.destService, {
      ...{ family: source.family, protocol: question.protocol, service: this.#parts.service },
    });
    return {
      question: { ...question, destIP: address, destPort: port },
      ends: { source: source.text, destination: address, origin, named: text },
    };
  }

  /** Undefined when the socket hooks leave the packet to the tc programs. */
  #atSocket(question: PacketQuery, ends: Ends, narrator: Narrator): Explanation | undefined {
    const { sockets } = this.#parts;
    const { destination, origin } = ends;
    // No socket hook translates SCTP.
    if (origin === 'external' || question.protocol === 'SCTP') return undefined;
    if (sockets === 'on request' && question.call === undefined) return undefined;
    const call = question.call ?? (question.protocol === 'UDP' ? 'sendto' : 'connect');
    if (typeof sockets === 'object') {
      if (question.call !== undefined) narrator.hook(`no socket hook translates ${call}(): ${sockets.problem}`);
      return undefined;
    }
    const { result, record } = this.#call(question, ends, call);
    const isRefused = result === -DropReason.DROP_NO_BACKEND && question.protocol === 'TCP';
    const isTranslated = result === SOCKET_REWRITE || isRefused;
    if (record.service !== 0) {
      const who = origin === 'node' ? 'a node process' : 'a pod';
      const unless = isUdpConnect(question, origin) ? ', unless it selects a backend on the node itself' : '';
      const does = isTranslated ? `translates ${call}() before there is a packet` : `leaves ${call}() to the tc programs${unless}`;
      if (isTranslated || question.call !== undefined) narrator.hook(`the socket hook of ${who} ${does}`);
      if (question.protocol === 'UDP') narrator.hook(this.#otherCall(question, ends, call));
    }
    if (!isTranslated) return undefined;
    const { frontend, port } = this.#frontend(question, record);
    narrator.frontend(frontend, record, { source: ends.source, port });
    narrator.policy(record, undefined);
    if (isRefused) {
      const reason = 'the Service port has no usable endpoint, so connect() fails with ECONNREFUSED';
      return narrator.answer({ verdict: 'REJECT', frontend, reason });
    }
    const candidates = this.#candidates(record, destination);
    narrator.candidates(candidates, record);
    narrator.socketAffinity(record, port);
    const backend = candidates.count === 1 ? (candidates.texts[0] ?? null) : null;
    const which = backend ?? 'one of these backends';
    return narrator.answer({ verdict: 'DNAT', frontend, candidates, backend, reason: `the socket is translated to ${which}` });
  }

  /** Describes what happens to a UDP socket that uses the other system call (connect or sendto). */
  #otherCall(question: PacketQuery, ends: Ends, call: SocketCall): string {
    const other = call === 'sendto' ? 'connect' : 'sendto';
    const kind = other === 'connect' ? 'a socket that calls connect() first' : 'a socket that calls sendto() without connect()';
    const isTranslated = this.#call(question, ends, other).result === SOCKET_REWRITE;
    return `${kind} is ${isTranslated ? 'translated by the socket hook too' : 'left to the tc programs'}`;
  }

  /** Runs the copy of the socket hooks on a system call. */
  #call(question: PacketQuery, { destination, origin }: Ends, call: SocketCall): ConnectRun {
    const four = !destination.includes(':');
    return this.#parts.programs.connect({
      ...{ address4: four ? destination : '0.0.0.0', address6: four ? '::' : destination, port: question.destPort },
      ...{ family: four ? 4 : 6, protocol: protocolNumbers[question.protocol] },
      ...{ isNode: origin === 'node' ? 1 : 0, isDatagram: call === 'sendto' ? 1 : 0 },
    });
  }

  #atDevice(question: PacketQuery, ends: Ends, narrator: Narrator): Explanation {
    const { source, destination, origin } = ends;
    const isPod = this.#parts.isPodInterface(origin, question.iface);
    const hook = origin === 'node' ? 'uplink_out' : isPod ? 'pod_in' : 'uplink_in';
    const frame = frameOf({
      ...{ protocol: question.protocol, source, destination, destinationPort: question.destPort },
      sourcePort: question.sourcePort === 0 ? ANY_PORT : question.sourcePort,
    });
    const device = this.#parts.deviceOf({ origin, source, destination, iface: question.iface, hook });
    const { action, record } = this.#parts.programs.run(hook, frame, device.ifindex);
    const { frontend, port } = this.#frontend(question, record);
    if (device.problem !== undefined) return this.#unprocessed(narrator, device.problem, { frontend, record, origin });
    narrator.hook(`${device.program} processes a packet from ${originText[origin]}`);
    const drop = Object.entries(DropReason).find(([, number]) => number === record.drop)?.[0] ?? '';
    if (frontend !== null) narrator.frontend(frontend, record, { source, port });
    if (record.isDecided !== 0) narrator.policy(record, origin);
    const isRefused = refusals.includes(drop);
    if (drop === 'DROP_NODE_TO_SELF' && typeof this.#parts.sockets !== 'object' && isUdpConnect(question, origin)) {
      const reason = 'all backends are on the node itself, so the socket hook translates connect() to one of them';
      return narrator.answer({ verdict: 'DNAT', frontend, reason });
    }
    if (record.drop !== 0) {
      const reason = narrator.reasonOf(drop, record.flags, { source, port });
      return narrator.answer({ verdict: isRefused ? 'REJECT' : 'DROP', frontend, drop, reason });
    }
    if (action === TC_ACT_SHOT)
      return narrator.answer({ verdict: 'DROP', frontend, reason: 'the packet is dropped and the program recorded no reason' });
    if (record.isRefused !== 0)
      return narrator.answer({
        ...{ verdict: 'NONE', frontend: null },
        reason: `a packet from ${source} is not accepted here, because the source is martian, is an address of this node, or is rejected by rp_filter; the packet is not translated`,
      });
    if (record.backendId === 0 && frontend !== null)
      return narrator.answer({
        ...{ verdict: 'NONE', frontend, reason: 'the agent drains, so the packet passes unchanged and is left to kube-proxy' },
      });
    if (record.backendId === 0)
      return narrator.answer({
        ...{ verdict: 'NONE', frontend: null, reason: 'the destination is not a frontend, so the packet passes unchanged' },
      });
    const candidates = this.#candidates(record, destination);
    narrator.candidates(candidates, record);
    const backend = this.#backendText(record.backendId, destination);
    narrator.choice(backend, record, { port, device: this.#parts.deviceName(record.dev) });
    return narrator.answer({
      ...{ verdict: 'DNAT', frontend, candidates: record.isFlow === 0 ? candidates : { texts: [backend], count: 1 }, backend },
      masquerade: record.isMasqueraded !== 0 || record.isHairpin !== 0,
      reason: record.isFlow === 0 ? `the packet is translated to ${backend}` : `the packet follows its open flow to ${backend}`,
    });
  }

  /** The answer for a packet that no tc program processes. If the packet matches a frontend, the answer says why it is not translated. */
  #unprocessed(
    narrator: Narrator,
    problem: string,
    found: { frontend: ExplainedFrontend | null; record: LbExplain; origin: Origin },
  ): Explanation {
    const { sockets } = this.#parts;
    const socketProblem = found.origin !== 'external' && typeof sockets === 'object' ? `${sockets.problem}, and ` : '';
    narrator.hook(`no program processes the packet: ${socketProblem}${problem}`);
    if (found.frontend === null && found.record.drop === 0)
      return narrator.answer({
        verdict: 'NONE',
        frontend: null,
        reason: 'the destination is not a frontend, so the packet passes unchanged',
      });
    const reason = `the packet is not translated because ${socketProblem}${problem}`;
    return narrator.answer({ verdict: 'NONE', frontend: found.frontend, reason });
  }

  #frontend(question: PacketQuery, record: LbExplain): { frontend: ExplainedFrontend | null; port: DesiredPort | undefined } {
    if (record.service === 0) return { frontend: null, port: undefined };
    const address = parseAddress(question.destIP)?.text ?? question.destIP;
    const key = frontendKey({ address, port: question.destPort, protocol: question.protocol });
    const port = this.#parts.ports(this.#parts.owners().get(record.service) ?? '');
    const wanted = port?.frontends.find((each) => frontendKey(each) === key);
    const isExternal = (record.flags & FrontendFlag.external) !== 0;
    const frontend: ExplainedFrontend = {
      frontend: key,
      service: port === undefined ? '' : `${port.namespace}/${port.name}:${port.portName}`,
      type: wanted?.type ?? '',
      scope: isExternal ? 'external' : 'internal',
    };
    return { frontend, port };
  }

  /** The backends of the set that the program used, as the maps hold them. */
  #candidates(record: LbExplain, destination: string): Candidates {
    if (record.service === 0) return { texts: [], count: 0 };
    const row = this.#parts.maps.services.get(record.service);
    const run = record.isLocal === 0 ? row : { base: row.localBase, count: row.localCount };
    const ids = new Set(this.#parts.maps.slots.read(run.base, run.count));
    return {
      texts: [
        ...ids
          .values()
          .take(maxCandidates)
          .map((id) => this.#backendText(id, destination)),
      ].sort(),
      count: ids.size,
    };
  }

  #backendText(id: number, destination: string): string {
    const { address, port } = this.#parts.maps.backends[destination.includes(':') ? 'IPv6' : 'IPv4'].get(id);
    return hostPort(address, port);
  }
}

const originText: Readonly<Record<Origin, string>> = { pod: 'a pod', node: 'the node', external: 'an external source' };

const usage = (message: string): ExitError => new ExitError(ExitCode.usage, message);

function destinationOf({ destIP, sourceIP }: PacketQuery, family: Family): { destination: string } {
  const destination = parseAddress(destIP);
  if (destination === undefined) throw usage(`the destination ${destIP} is not an IP address`);
  if (destination.family !== family) throw usage(`${sourceIP} and ${destIP} are of different IP families`);
  return { destination: destination.text };
}
