// SPDX-License-Identifier: Apache-2.0
// Properties that hold for any cluster: the order of events does not matter, and the results of the oracle are consistent
// (test/README.md, 14 and 15). The name of a test contains its seed.
import { describe, expect, test } from 'vitest';
import { trace, type Trace } from '../../support/oracle.ts';
import { frontendKey } from '../../../daemon/model/frontend.ts';
import { fakeLbMaps } from '../../support/fake-maps.ts';
import type { EndpointSlice } from '../../../daemon/model/endpoint-slice.ts';
import type { Node } from '../../../daemon/model/node.ts';
import type { Service } from '../../../daemon/model/service.ts';
import { seededRandom } from '../../support/fake-clock.ts';
import { desiredOf } from '../../support/semantics/case.ts';
import { randomCase } from '../../support/semantics/random.ts';
import { World } from '../../support/world.ts';

const seeds = Array.from({ length: 60 }, (_, n) => n + 1);

const rowsOf = (rows: Iterable<[string, unknown]>): object => Object.fromEntries([...rows].toSorted(([a], [b]) => (a < b ? -1 : 1)));

type Row = Service | EndpointSlice | Node;

/** The rows in random order. */
function shuffled(rows: readonly Row[], random: () => number): Row[] {
  return rows
    .map((row) => ({ row, at: random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ row }) => row);
}

/** A different version of the row. The test sends it first, and a later event replaces it. */
function earlier(row: Row): Row {
  if ('clusterIPs' in row) return { ...row, externalPolicy: 'Local', type: 'LoadBalancer', externalIPs: ['192.0.2.1'], created: 1 };
  return 'endpoints' in row ? { ...row, endpoints: [] } : { ...row, addresses: ['192.168.0.77'], labels: {} };
}

describe('15: the end state depends only on the objects', () => {
  test.for(seeds)('the end state depends only on the objects (seed %i)', (seed) => {
    const { cluster } = randomCase(seed, 0);
    const random = seededRandom(seed);
    const rows: Row[] = [...(cluster.services ?? []), ...(cluster.slices ?? []), ...(cluster.node === undefined ? [] : [cluster.node])];
    const ends = [rows, shuffled(rows, random), shuffled(rows, random)].map((order) => {
      const world = new World({ maps: fakeLbMaps(), ...(cluster.settings === undefined ? {} : { settings: cluster.settings }) }).listed();
      for (const row of order) {
        if (random() < 0.5) world.put(earlier(row));
        if (random() < 0.5) world.flush();
      }
      for (const row of order) {
        world.put(row);
        if (random() < 0.3) world.flush();
      }
      world.flush();
      return { ports: rowsOf(world.desired.all()), host: rowsOf(world.host.all()), ranges: rowsOf(world.ranges.all()) };
    });
    expect(ends[1]).toEqual(ends[0]);
    expect(ends[2]).toEqual(ends[0]);
  });
});

/** The consistency conditions that a result of the oracle violates. */
function violations({ verdict, frontend, port, set, candidates, hairpin, masquerade }: Trace): string[] {
  const isServed = verdict === 'DNAT';
  const conditions: [string, boolean][] = [
    ['there are candidates if and only if the verdict is DNAT', candidates.length > 0 === isServed],
    ['there is a frontend if and only if there is a port', (frontend === undefined) === (port === undefined)],
    ['DNAT has a set', !isServed || set !== undefined],
    ['only DNAT rewrites the source', isServed || (!masquerade && hairpin.length === 0)],
    ['hairpin backends are candidates', hairpin.every((each) => candidates.includes(each))],
    ['NONE has no frontend', verdict !== 'NONE' || frontend === undefined],
  ];
  return conditions.flatMap(([condition, holds]) => (holds ? [] : [condition]));
}

describe('the results of the oracle are consistent', () => {
  test.for(seeds)('the results of the oracle are consistent (seed %i)', (seed) => {
    const { cluster, packets } = randomCase(seed, 200);
    const world = desiredOf(cluster);
    const frontends = [...world.ports.values()].flatMap((port) => port.frontends.map(frontendKey));
    expect(frontends).toEqual([...new Set(frontends)]);
    const wrong = packets.flatMap((packet) => violations(trace(world, packet)).map((condition) => ({ packet, condition })));
    expect(wrong).toEqual([]);
  });

  test('at least 5 % of the random packets get each verdict', () => {
    const verdicts = seeds.flatMap((seed) => {
      const { cluster, packets } = randomCase(seed, 100);
      const world = desiredOf(cluster);
      return packets.map((packet) => trace(world, packet).verdict);
    });
    const shares = Map.groupBy(verdicts, (verdict) => verdict);
    const rare = ['DNAT', 'REJECT', 'DROP', 'NONE'].filter(
      (verdict) => (shares.get(verdict as 'DNAT')?.length ?? 0) < verdicts.length / 20,
    );
    expect(rare).toEqual([]);
  });
});
