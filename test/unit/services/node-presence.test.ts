// SPDX-License-Identifier: Apache-2.0
// Problems are reported if the node name of this agent has no Node object.
import { expect, test } from 'vitest';
import type { Node } from '../../../daemon/model/node.ts';
import { NodePresence } from '../../../daemon/services/controller/node-presence.ts';
import { Table } from '../../../daemon/table/table.ts';

const node = (name: string): Node => ({ name, addresses: [], labels: {}, podCIDRs: [], isLeaving: false });

test('after the first list, there is a problem while no Node has the configured name', () => {
  const nodes = new Table<string, Node>('nodes', () => undefined);
  const finish = nodes.registerSource('test');
  const presence = new NodePresence({ nodes, nodeName: 'worker-1', source: 'files /etc/sluice' });
  nodes.upsert('worker-2', node('worker-2'));
  expect([presence.summary(), presence.problems()]).toEqual(['worker-1; Nodes are not listed yet', []]);
  finish();
  expect([presence.summary(), presence.problems()]).toEqual([
    'worker-1 does not exist in the source files /etc/sluice',
    [expect.stringMatching(/^there is no Node named worker-1, .*: set --node to the name of this node's Node object/)],
  ]);
  nodes.upsert('worker-1', node('worker-1'));
  expect([presence.summary(), presence.problems()]).toEqual(['worker-1', []]);
  nodes.delete('worker-1');
  expect(presence.problems()).toHaveLength(1);
});
