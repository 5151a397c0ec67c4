// SPDX-License-Identifier: Apache-2.0
// A scan of a directory is done in slices: a large file holds up neither the event loop nor a stop, and what a scan changes becomes
// visible at one moment.
import { setImmediate as nextRound } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { finish } from '../../../daemon/base/slices.ts';
import { splitDocuments } from '../../../daemon/source/files/documents.ts';
import { longestTurn } from '../../support/turns.ts';
import { serviceYaml, startWorld, type World } from './fixture.ts';

const COUNT = 10_000;
const address = (i: number, net: number): string => `10.${net}.${i >> 8}.${i & 255}`;
const json = (count: number, net: number): string =>
  JSON.stringify({
    kind: 'List',
    items: Array.from({ length: count }, (_, i) => ({
      ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: `s${i}` } },
      spec: { clusterIP: address(i, net), ports: [{ port: 80 }] },
    })),
  });
const yaml = (count: number, net: number): string =>
  Array.from({ length: count }, (_, i) => serviceYaml(`s${i}`, address(i, net))).join('---\n');

/** How many of the Services have an address in 10.net.0.0/16. */
const served = (world: World, net: number): number =>
  [...world.tables.services.all()].filter(([, row]) => row.clusterIPs.IPv4?.startsWith(`10.${net}.`)).length;

test.for([
  { name: 'JSON list', file: 'big.json', text: json },
  { name: 'YAML file', file: 'big.yaml', text: yaml },
])(
  '10,000 objects in one $name are added, changed and removed without holding up the event loop',
  { timeout: 120_000 },
  async ({ file, text }) => {
    const world = await startWorld({ 'a.yaml': serviceYaml('a') });
    const stalls: number[] = [];
    for (const [net, count] of [
      [1, COUNT],
      [2, COUNT],
      [3, 0],
    ] as const) {
      world.write({ [file]: text(Math.max(1, count), net) });
      let isRead = false;
      const settled = world.settle().then(() => (isRead = true));
      stalls.push(await longestTurn(() => isRead));
      await settled;
      expect([served(world, net), world.tables.services.size]).toEqual([Math.max(count, 1), Math.max(count, 1) + 1]);
    }
    expect(Math.max(...stalls)).toBeLessThan(60);
  },
);

test('the changes of several large files become visible together', async () => {
  const half = (net: number, from: number): string =>
    Array.from({ length: 1500 }, (_, i) => serviceYaml(`s${from + i}`, address(from + i, net))).join('---\n');
  const world = await startWorld({ 'a.yaml': half(1, 0), 'b.yaml': half(1, 1500) });
  expect(served(world, 1)).toBe(3000);
  const seen = new Set<number>();
  world.tables.services.onChange(() => seen.add(served(world, 2)));
  // Some Services move to the other file, so no part of the change may be visible alone.
  world.write({ 'b.yaml': half(2, 0), 'a.yaml': half(2, 1500) });
  await world.settle();
  expect(served(world, 2)).toBe(3000);
  expect(world.tables.services.size).toBe(3000);
  expect([...seen].every((count) => count === 0 || count >= 1500)).toBe(true);
}, 60_000);

test('a stop during a scan of a large file ends it, and no row is written afterwards', async () => {
  const world = await startWorld({ 'big.yaml': yaml(3000, 1) });
  const { revision } = world;
  world.write({ 'big.yaml': yaml(3000, 2) });
  const scan = world.source.rescan();
  for (let round = 0; round < 20; round += 1) await nextRound();
  await world.source.stop();
  await scan;
  const atStop = world.revision;
  for (let round = 0; round < 50; round += 1) await nextRound();
  expect([atStop, world.revision]).toEqual([revision, revision]);
}, 60_000);

test('one changed document in a file of thousands writes one row', async () => {
  const world = await startWorld({ 'big.yaml': yaml(2000, 1) });
  const { revision } = world;
  world.write({ 'big.yaml': yaml(2000, 1).replace('10.1.3.7\n', '10.9.9.9\n') });
  await world.settle();
  expect(world.revision).toBe(revision + 1);
  expect(world.tables.services.get('default/s775')?.clusterIPs.IPv4).toBe('10.9.9.9');
});

test('a file of millions of documents is refused by name, and its objects keep their rows', async () => {
  const world = await startWorld({ 'long.yaml': serviceYaml('web') });
  world.write({ 'long.yaml': 'a: b\n---\n'.repeat(3_000_000) });
  let isRead = false;
  const read = world.source.rescan().then(() => (isRead = true));
  const stall = await longestTurn(() => isRead);
  await read;
  expect(world.messages).toEqual(['long.yaml: cannot be read: it contains more than 100000 documents']);
  expect([world.services, world.source.isComplete]).toEqual([['default/web'], false]);
  // To read 27 MB of text takes most of the longest turn.
  expect(stall).toBeLessThan(150);
}, 60_000);

test.for([
  { name: 'text without a mark', text: 'a: b\nc: d\n', parts: [['a: b\nc: d\n', 0]] },
  { name: 'an empty text', text: '', parts: [['', 0]] },
  { name: 'a mark at the start', text: '---\na: b\n', parts: [['---\na: b\n', 0]] },
  {
    name: 'marks that end a line or are followed by a blank',
    text: 'a: b\n---\nc: d\n--- e\n---',
    parts: [
      ['a: b\n', 0],
      ['---\nc: d\n', 1],
      ['--- e\n', 3],
      ['---', 4],
    ],
  },
  { name: 'dashes that are no mark', text: 'a: b\n----\n ---\n---x\n', parts: [['a: b\n----\n ---\n---x\n', 0]] },
  {
    name: 'CRLF',
    text: 'a: b\r\n---\r\nc: d\r\n',
    parts: [
      ['a: b\r\n', 0],
      ['---\r\nc: d\r\n', 1],
    ],
  },
  { name: 'a directive', text: '%YAML 1.2\n---\na: b\n---\nc: d\n', parts: [['%YAML 1.2\n---\na: b\n---\nc: d\n', 0]] },
  { name: 'an end mark', text: 'a: b\n---\nc: d\n...\n---\ne: f\n', parts: [['a: b\n---\nc: d\n...\n---\ne: f\n', 0]] },
  { name: 'an end mark at the end', text: 'a: b\n---\nc: d\n...', parts: [['a: b\n---\nc: d\n...', 0]] },
  {
    name: 'dots that are no end mark',
    text: 'a: b\n...x\n---\nc: d',
    parts: [
      ['a: b\n...x\n', 0],
      ['---\nc: d', 2],
    ],
  },
])('documents of a YAML file: $name', ({ text, parts }) => {
  expect(finish(splitDocuments(text))?.map((part) => [part.text, part.line])).toEqual(parts);
});
