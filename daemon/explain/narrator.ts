// SPDX-License-Identifier: Apache-2.0
// Tells the decisions that a twin recorded, in order, in words that a person can check: one step each, with the map entry
// that it rested on. Words only: what was decided is the record's.
import type { LbExplain } from '../maps/gen/layouts.ts';
import { FrontendFlag } from '../maps/types.ts';
import type { Explanation, ExplainedFrontend, Origin, Step } from '../model/explanation.ts';

const dropReasons: Readonly<Record<string, string>> = {
  DROP_NO_BACKEND: 'no usable endpoint anywhere: refused',
  DROP_NO_LOCAL_BACKEND: 'the traffic policy is Local, and all usable endpoints are on other nodes: dropped',
  DROP_WRONG_PORT: 'a ClusterIP, but the Service has no such port: refused',
  DROP_UNALLOCATED: 'inside a Service CIDR, but no Service has this address: dropped',
  DROP_SOURCE_RANGE: 'the source is not in loadBalancerSourceRanges: dropped',
  DROP_NO_NODE_ADDRESS: "it must be masqueraded, and the node's address of this family is not known: dropped",
  DROP_NO_ROUTE: 'the node has no route to the backend: dropped',
  DROP_NODE_TO_SELF: "a node process to a backend on the node's own address needs socket translation: dropped",
  DROP_NO_FLOW: 'its flow is not known any more, and it would get another source port: refused',
  DROP_PORT_EXHAUSTED: 'no source port is free towards this backend: dropped',
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
    const what = frontend.service === '' ? 'a frontend of no known Service' : `${frontend.type} of ${frontend.service}`;
    const words = Object.entries(FrontendFlag).filter(([, bit]) => (flags & bit) !== 0);
    this.#add(
      'frontend',
      `${frontend.frontend} is ${what}`,
      `frontends: service ${service}, flags ${words.map(([name]) => name).join(',') || '-'}`,
    );
    if ((flags & FrontendFlag.ranges) !== 0)
      this.#add('source ranges', 'the source must be in loadBalancerSourceRanges', `ranges: set ${service}`);
  }

  /** Which set of backends the source is given, and whether its address is kept. */
  policy({ flags, isLocal, masquerades }: LbExplain, origin: Origin | undefined): void {
    const name = (flags & FrontendFlag.external) === 0 ? 'internalTrafficPolicy' : 'externalTrafficPolicy';
    const asked = (flags & FrontendFlag.local) !== 0;
    if (isLocal !== 0) this.#add('policy', `${name} is Local: endpoints of this node only`);
    else if (asked) this.#add('policy', `${name} is Local, but the source is inside: all endpoints`);
    else this.#add('policy', `${name} is Cluster: all endpoints`);
    if (origin === undefined) return;
    this.#add(
      'masquerade',
      masquerades === 0 ? 'by the rules the source address is kept' : "by the rules the source becomes the node's address",
    );
  }

  candidates(candidates: readonly string[], { service, isLocal }: LbExplain): void {
    const set = isLocal === 0 ? 'base, count' : 'localBase, localCount';
    const count = candidates.length === 1 ? 'one backend' : `${candidates.length} backends`;
    this.#add('backend', `${count}: ${candidates.join(', ')}`, `lb_services[${service}]: ${set}`);
  }

  choice(backend: string, record: LbExplain, device: string | undefined): void {
    if (record.isFlow !== 0) this.#add('flow', `an open flow has ${backend} already`, 'ct');
    if (record.isAffine !== 0) this.#add('affinity', `ClientIP affinity names ${backend}`, `affinity: service ${record.service}`);
    else if (record.isFlow === 0) this.#add('backend', `the hash of the packet chooses ${backend}`, `backends[${record.backendId}]`);
    if (record.isHairpin !== 0 && record.isMasqueraded === 0)
      this.#add('masquerade', 'the backend is the source: the VIP becomes the source (hairpin)');
    else if (record.isHairpin !== 0) this.#add('masquerade', "the backend is the source: the source becomes the node's address (hairpin)");
    if (device !== undefined) this.#add('route', `out by ${device}`);
  }

  reasonOf(drop: string): string {
    return dropReasons[drop] ?? `dropped: ${drop.replace(/^DROP_/, '')}`;
  }

  answer({ verdict, frontend, candidates = [], backend = null, masquerade = false, drop = '', reason }: Outcome): Explanation {
    this.#add('verdict', drop === '' ? `${verdict}: ${reason}` : `${verdict} (${drop.replace(/^DROP_/, '')}): ${reason}`);
    return { verdict, frontend, candidates, backend, masquerade, reason, steps: this.#steps };
  }

  #add(step: Step['step'], text: string, entry = ''): void {
    this.#steps.push({ step, text, entry });
  }
}
