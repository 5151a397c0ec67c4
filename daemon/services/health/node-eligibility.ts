// SPDX-License-Identifier: Apache-2.0
// Whether load balancers should go on using this node (kube-proxy-semantics.md, 12): not when its Node is about to go, or
// has been there and is gone. A node without a Node object, as with files, stays eligible. Read by proxy-health.ts.
import type { Node } from '../../model/node.ts';
import type { TableView } from '../../table/table.ts';

export class NodeEligibility {
  readonly #nodes: TableView<string, Pick<Node, 'isLeaving'>>;
  readonly #name: string;
  #wasKnown = false;
  #unsubscribe: (() => void) | undefined;

  constructor(nodes: TableView<string, Pick<Node, 'isLeaving'>>, name: string) {
    this.#nodes = nodes;
    this.#name = name;
  }

  start(): void {
    this.#unsubscribe = this.#nodes.onChange(() => this.#look());
    this.#look();
  }

  stop(): void {
    this.#unsubscribe?.();
  }

  get isEligible(): boolean {
    this.#look();
    const node = this.#nodes.get(this.#name);
    return node === undefined ? !this.#wasKnown : !node.isLeaving;
  }

  #look(): void {
    this.#wasKnown ||= this.#nodes.get(this.#name) !== undefined;
  }
}
