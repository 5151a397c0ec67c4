// SPDX-License-Identifier: Apache-2.0
// Turns the recorded decisions of a program into sentences, in order: one step for each decision, with the map entry behind it. The
// sentences are output of `sluice explain`. It must never decide anything: every decision is in the record. Used by explainer.ts.
import type { LbExplain } from '../maps/gen/layouts.ts';
import { FrontendFlag } from '../maps/types.ts';
import type { Explanation, ExplainedFrontend, Origin, Step } from '../model/explanation.ts';

const dropReasons: Readonly<Record<string, string>> = {
  DROP_NO_BACKEND: 'the Service port has no usable endpoint, so the packet is refused',
  DROP_NO_LOCAL_BACKEND: 'the traffic policy is Local and all usable endpoints are on other nodes, so the packet is dropped',
  DROP_WRONG_PORT: 'the destination is a ClusterIP, but its Service does not have this port, so the packet is refused',
  DROP_UNALLOCATED: 'the destination is in a Service CIDR, but no Service has this address, so the packet is dropped',
  DROP_SOURCE_RANGE: 'the source is not in loadBalancerSourceRanges, so the packet is dropped',
  DROP_NO_NODE_ADDRESS: 'the packet must be masqueraded, but no node address of this IP family is known, so the packet is dropped',
  DROP_NO_ROUTE: 'the node has no route to the backend, so the packet is dropped',
  DROP_NODE_TO_SELF: 'the node sends to a backend on its own address, which needs socket translation, so the packet is dropped',
  DROP_NO_FLOW: 'the flow is not known any more and would get another source port, so the packet is refused',
  DROP_PORT_EXHAUSTED: 'no source port is free for this backend, so the packet is dropped',
};

interface Outcome {
  readonly verdict: Explanation['verdict'];
  readonly frontend: ExplainedFrontend | null;
  readonly candidates?: readonly string[];
  readonly backend?: string | null;
  readonly masquerade?: boolean;
  readonly drop?: string;
  readonly reason: string;
}

export class Narrator {
  readonly #steps: Step[] = [];

  constructor(hook: string) {
    this.#add('hook', hook);
  }

  frontend(frontend: ExplainedFrontend | null, { service, flags }: LbExplain): void {
    if (frontend === null) return;
    const owner = frontend.service === '' ? 'an unknown Service' : frontend.service;
    const words = Object.entries(FrontendFlag).filter(([, bit]) => (flags & bit) !== 0);
    this.#add(
      'frontend',
      `${frontend.frontend} is a ${frontend.type === '' ? '' : `${frontend.type} `}frontend of ${owner}`,
      `frontends: service ${service}, flags ${words.map(([name]) => name).join(',') || '-'}`,
    );
    if ((flags & FrontendFlag.ranges) !== 0)
      this.#add('source ranges', 'the source must be in loadBalancerSourceRanges', `ranges: set ${service}`);
  }

  /** Says which endpoints are eligible for this source, and whether the source address is kept. */
  policy({ flags, isLocal, masquerades }: LbExplain, origin: Origin | undefined): void {
    const name = (flags & FrontendFlag.external) === 0 ? 'internalTrafficPolicy' : 'externalTrafficPolicy';
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
        : "the masquerade rules replace the source with the node's address",
    );
  }

  candidates(candidates: readonly string[], { service, isLocal }: LbExplain): void {
    const set = isLocal === 0 ? 'base, count' : 'localBase, localCount';
    const count = candidates.length === 1 ? '1 backend is eligible' : `${candidates.length} backends are eligible`;
    this.#add('backend', `${count}: ${candidates.join(', ')}`, `lb_services[${service}]: ${set}`);
  }

  choice(backend: string, record: LbExplain, device: string | undefined): void {
    if (record.isFlow !== 0) this.#add('flow', `the packet belongs to an open flow to ${backend}`, 'ct');
    if (record.isAffine !== 0) this.#add('affinity', `ClientIP affinity selects ${backend}`, `affinity: service ${record.service}`);
    else if (record.isFlow === 0) this.#add('backend', `the hash of the packet selects ${backend}`, `backends[${record.backendId}]`);
    if (record.isHairpin !== 0 && record.isMasqueraded === 0)
      this.#add('masquerade', 'the backend is the source itself (hairpin), so the virtual IP becomes the source address');
    else if (record.isHairpin !== 0)
      this.#add('masquerade', "the backend is the source itself (hairpin), so the node's address becomes the source address");
    if (device !== undefined)
      this.#add('route', record.dev === 0 ? 'the packet is delivered to the node itself' : `the packet leaves through ${device}`);
  }

  reasonOf(drop: string): string {
    return dropReasons[drop] ?? `the packet is dropped: ${drop.replace(/^DROP_/, '')}`;
  }

  answer({ verdict, frontend, candidates = [], backend = null, masquerade = false, drop = '', reason }: Outcome): Explanation {
    this.#add('verdict', drop === '' ? `${verdict}: ${reason}` : `${verdict} (${drop.replace(/^DROP_/, '')}): ${reason}`);
    return { verdict, frontend, candidates, backend, masquerade, reason, steps: this.#steps };
  }

  #add(step: Step['step'], text: string, entry = ''): void {
    this.#steps.push({ step, text, entry });
  }
}
