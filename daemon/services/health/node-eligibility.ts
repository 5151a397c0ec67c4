// SPDX-License-Identifier: Apache-2.0
// Whether load balancers should keep sending traffic to this node (test/README.md, 12). The node is not eligible if its Node
// object is about to be deleted, or existed and was deleted. A node that never had a Node object, as with the files source,
// stays eligible. Read by proxy-health.ts.
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
    this.#unsubscribe = this.#nodes.onChange(() => this.#update());
    this.#update();
  }

  stop(): void {
    this.#unsubscribe?.();
  }

  get isEligible(): boolean {
    this.#update();
    const node = this.#nodes.get(this.#name);
    return node === undefined ? !this.#wasKnown : !node.isLeaving;
  }

  #update(): void {
    this.#wasKnown ||= this.#nodes.get(this.#name) !== undefined;
  }
}
