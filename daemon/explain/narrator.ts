// SPDX-License-Identifier: Apache-2.0
// Turns the recorded decisions of a program into sentences, in order: one step for each decision, with the map entry behind it. The
// sentences are output of `sluice explain`. It must never decide anything: every decision is in the record. Used by explainer.ts.
import type { LbExplain } from '../maps/gen/layouts.ts';
import { FrontendFlag } from '../maps/types.ts';
import { cidrContains } from '../model/address.ts';
import type { Explanation, ExplainedFrontend, Origin, Step } from '../model/explanation.ts';
import type { DesiredPort } from '../model/frontend.ts';

/** Maximum number of source ranges that a sentence lists. */
const SHOWN_RANGES = 16;

const dropReasons: Readonly<Record<string, string>> = {
  DROP_NO_BACKEND: 'the Service port has no usable endpoint, so the packet is refused',
  DROP_NO_LOCAL_BACKEND: '{policy} is Local and all usable endpoints are on other nodes, so the packet is dropped',
  DROP_WRONG_PORT: 'the destination is a ClusterIP, but its Service does not have this port, so the packet is refused',
  DROP_UNALLOCATED: 'the destination is in a Service CIDR, but no Service has this address, so the packet is dropped',
  DROP_SOURCE_RANGE: 'the source {source} is in none of the loadBalancerSourceRanges{ranges}, so the packet is dropped',
  DROP_NO_NODE_ADDRESS:
    'the packet must be masqueraded, but neither the device that it leaves by nor the node has a known address of this IP family, so the packet is dropped',
  DROP_NO_ROUTE: 'the node has no route to the backend, so the packet is dropped',
  DROP_NODE_TO_SELF:
    'a process of the node sends to a Service whose backends are on the node itself, which works only with --socket-lb on, so the packet is dropped',
  DROP_NO_FLOW:
    'the flow table no longer has an entry for this connection, and a new entry would use a different source port, so the packet is refused',
  DROP_PORT_EXHAUSTED: 'no source port is free for this backend, so the packet is dropped',
};

/** Maximum number of candidates that a step names. */
const namedCandidates = 10;

/** Backends that could be selected. `texts` is "ip:port" of a limited number of them, sorted. `count` is the number of all of them. */
export interface Candidates {
  readonly texts: readonly string[];
  readonly count: number;
}

interface Outcome {
  readonly verdict: Explanation['verdict'];
  readonly frontend: ExplainedFrontend | null;
  readonly candidates?: Candidates;
  readonly backend?: string | null;
  readonly masquerade?: boolean;
  readonly drop?: string;
  readonly reason: string;
}

export class Narrator {
  readonly #steps: Step[] = [];

  /** Adds the step that says which Service and port the name of the destination refers to. */
  destination(text: string): void {
    this.#add('destination', text);
  }

  /** Adds the step that says which program processes the packet or the call, or that none does. */
  hook(text: string): void {
    this.#add('hook', text);
  }

  /** `port` is the desired row of the frontend. Its source ranges are listed in a step. */
  frontend(frontend: ExplainedFrontend | null, { service, flags }: LbExplain, { source, port }: Packet): void {
    if (frontend === null) return;
    const owner = frontend.service === '' ? 'an unknown Service' : frontend.service;
    const words = Object.entries(FrontendFlag).filter(([, bit]) => (flags & bit) !== 0);
    this.#add(
      'frontend',
      `${frontend.frontend} is a ${frontend.type === '' ? '' : `${frontend.type} `}frontend of ${owner}`,
      `frontends: service ${service}, flags ${words.map(([name]) => name).join(',') || '-'}`,
    );
    if ((flags & FrontendFlag.ranges) !== 0) this.#add('source ranges', rangesSentence(source, port), `ranges: set ${service}`);
  }

  /** Says which endpoints are eligible for this source, and whether the source address is kept. */
  policy({ flags, isLocal, masquerades }: LbExplain, origin: Origin | undefined): void {
    const name = policyName(flags);
    const hasPolicyLocal = (flags & FrontendFlag.local) !== 0;
    if (isLocal !== 0) this.#add('policy', `${name} is Local, so only endpoints on this node are eligible`);
    else if (hasPolicyLocal)
      this.#add('policy', `${name} is Local, but the source is this node or a local pod, so all endpoints are eligible`);
    else this.#add('policy', `${name} is Cluster, so all endpoints are eligible`);
    if (origin === undefined) return;
    this.#add(
      'masquerade',
      masquerades === 0
        ? 'the masquerade rules keep the source address'
        : 'the masquerade rules replace the source with an address of the node',
    );
  }

  candidates({ texts, count }: Candidates, { service, isLocal }: LbExplain): void {
    const set = isLocal === 0 ? 'base, count' : 'localBase, localCount';
    const total = count === 1 ? '1 backend is eligible' : `${count} backends are eligible`;
    const named = texts.slice(0, namedCandidates).join(', ');
    const others = count > namedCandidates ? ` and ${count - namedCandidates} more` : '';
    this.#add('backend', `${total}: ${named}${others}`, `lb_services[${service}]: ${set}`);
  }

  /** Adds what session affinity means for a socket. The record does not name the backend of a socket. */
  socketAffinity({ isAffine }: LbExplain, port: DesiredPort | undefined): void {
    const seconds = port?.affinitySeconds ?? 0;
    if (isAffine !== 0) this.#add('affinity', `${affinityText(seconds)} selects the backend that the node already uses`);
    else if (seconds > 0) this.#add('affinity', `${affinityText(seconds)} has no backend for the node yet, and keeps the selected one`);
  }

  choice(backend: string, record: LbExplain, { port, device }: { port: DesiredPort | undefined; device: string | undefined }): void {
    const affinity = port?.affinitySeconds ?? 0;
    if (record.isFlow !== 0) this.#add('flow', `the packet belongs to an open flow to ${backend}`, 'ct');
    if (record.isAffine !== 0) this.#add('affinity', `${affinityText(affinity)} selects ${backend}`, `affinity: service ${record.service}`);
    else if (record.isFlow === 0) this.#add('backend', `the hash of the packet selects ${backend}`, `backends[${record.backendId}]`);
    if (affinity > 0 && record.isAffine === 0 && record.isFlow === 0)
      this.#add('affinity', `${affinityText(affinity)} has no backend for this source yet, and keeps the selected one from now on`);
    if (record.isHairpin !== 0 && record.isMasqueraded === 0)
      this.#add('masquerade', 'the backend is the source itself (hairpin), so the virtual IP becomes the source address');
    else if (record.isHairpin !== 0)
      this.#add('masquerade', `the backend is the source itself (hairpin), so ${sourceOf(record)} becomes the source address`);
    else if (record.isMasqueraded !== 0) this.#add('masquerade', `the source becomes ${sourceOf(record)}, as netfilter would select it`);
    if (device !== undefined)
      this.#add('route', record.dev === 0 ? 'the packet is delivered to the node itself' : `the packet leaves through ${device}`);
  }

  reasonOf(drop: string, flags: number, { source, port }: Packet): string {
    const ranges = rangesText(port?.sourceRanges ?? []);
    return (dropReasons[drop] ?? `the packet is dropped: ${drop.replace(/^DROP_/, '')}`)
      .replace('{policy}', policyName(flags))
      .replace('{source}', source)
      .replace('{ranges}', ranges === '' ? '' : ` (${ranges})`);
  }

  answer({
    verdict,
    frontend,
    candidates = { texts: [], count: 0 },
    backend = null,
    masquerade = false,
    drop = '',
    reason,
  }: Outcome): Explanation {
    this.#add('verdict', drop === '' ? `${verdict}: ${reason}` : `${verdict} (${drop.replace(/^DROP_/, '')}): ${reason}`);
    const moreCandidates = candidates.count - candidates.texts.length;
    return { verdict, frontend, candidates: candidates.texts, moreCandidates, backend, masquerade, reason, steps: this.#steps };
  }

  #add(step: Step['step'], text: string, entry = ''): void {
    this.#steps.push({ step, text, entry });
  }
}

/** The properties of a packet that the sentences use: its source, and the desired row of the Service port that it matches. */
export interface Packet {
  readonly source: string;
  readonly port: DesiredPort | undefined;
}

const policyName = (flags: number): string => ((flags & FrontendFlag.external) === 0 ? 'internalTrafficPolicy' : 'externalTrafficPolicy');

const affinityText = (seconds: number): string => `session affinity ClientIP${seconds === 0 ? '' : ` (${seconds} s)`}`;

function rangesText(ranges: readonly string[]): string {
  const more = ranges.length - SHOWN_RANGES;
  return `${ranges.slice(0, SHOWN_RANGES).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

function rangesSentence(source: string, port: DesiredPort | undefined): string {
  const ranges = port?.sourceRanges ?? [];
  const match = ranges.find((range) => cidrContains(range, source));
  if (match !== undefined) return `the source is in ${match}, one of the loadBalancerSourceRanges`;
  return `the source must be in loadBalancerSourceRanges${ranges.length === 0 ? '' : `: ${rangesText(ranges)}`}`;
}

/** The source of a masqueraded packet. The record has it for one family. */
const sourceOf = ({ source4, source6 }: LbExplain): string => (source4 === '0.0.0.0' ? source6 : source4);
