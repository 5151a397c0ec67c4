// SPDX-License-Identifier: Apache-2.0
// Reports whether the Node object of this agent exists. Without it the agent works with less information: the controllers then use the
// addresses of the host. It writes no table. The status shows it.
import type { SummaryPart } from '../../base/status-part.ts';
import { missingNode, type Node } from '../../model/node.ts';
import type { TableView } from '../../table/table.ts';

export interface NodePresenceOptions {
  /** Keyed by name. */
  readonly nodes: Pick<TableView<string, Node>, 'get' | 'initialized'>;
  /** Name of this node. */
  readonly nodeName: string;
  /** Name of the source of the Node objects: "files /etc/sluice". */
  readonly source: string;
}

export class NodePresence implements SummaryPart {
  readonly #options: NodePresenceOptions;

  constructor(options: NodePresenceOptions) {
    this.#options = options;
  }

  summary(): string {
    const { nodes, nodeName, source } = this.#options;
    if (!nodes.initialized) return `${nodeName}; Nodes are not listed yet`;
    return nodes.get(nodeName) === undefined ? `${nodeName} does not exist in the source ${source}` : nodeName;
  }

  /** At most one message. */
  problems(): string[] {
    const { nodes, nodeName } = this.#options;
    if (!nodes.initialized || nodes.get(nodeName) !== undefined) return [];
    return [missingNode(nodeName)];
  }
}
