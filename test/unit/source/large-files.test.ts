// SPDX-License-Identifier: Apache-2.0
// Large and unusual directories. The cost of a file is in proportion to its size. Parsing a file must not block the event loop. If a
// file exceeds a limit, its objects keep their rows.
import { unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { describe, expect, test } from 'vitest';
import { parseDocument } from '../../../daemon/source/files/documents.ts';
import { JsonPlaces } from '../../../daemon/source/json-text.ts';
import { collectGarbage } from '../../support/garbage.ts';
import { serviceYaml, startWorld } from './fixture.ts';

const service = (i: number, clusterIP = `10.96.${i >> 8}.${i & 255}`): object => ({
  ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: `s${i}`, annotations: { note: 'x'.repeat(700) } } },
  spec: { clusterIP, ports: [{ port: 80 }] },
});
const listOf = (items: readonly object[]): string => JSON.stringify({ kind: 'List', items }, undefined, 1);

/** Runs the task, and returns the longest time in ms for which the event loop was blocked meanwhile. */
async function stallDuring(task: () => Promise<void>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  await task();
  delay.disable();
  return delay.max / 1e6;
}

test('a wrong value at the end of a JSON list of 8 MB is found without blocking the event loop', async () => {
  const world = await startWorld({ 'a.yaml': serviceYaml('a') });
  const items = Array.from({ length: 8000 }, (_, i) => service(i, i === 7990 ? 'x' : undefined));
  const stall = await stallDuring(async () => {
    world.write({ 'big.json': listOf(items) });
    await world.source.rescan();
  });
  expect(world.messages).toEqual([expect.stringMatching(/^big\.json:\d+: Service default\/s7990 spec\.clusterIP: must be an IP address/)]);
  expect(world.tables.services.size).toBe(8000);
  // The parser alone would need more than ten seconds to find the line.
  expect(stall).toBeLessThan(2000);
});

test('if a file has many wrong values, the reported line of each value is correct', async () => {
  const items = Array.from({ length: 3000 }, (_, i) => service(i, 'x'));
  const text = listOf(items);
  const world = await startWorld({ 'big.json': text });
  const lines = text.split('\n');
  expect(world.messages).toHaveLength(101);
  for (const message of world.messages.slice(1)) {
    const [, line, name] = /^big\.json:(\d+): Service default\/(s\d+) /.exec(message) ?? [];
    expect(lines[Number(line) - 1]).toContain('"clusterIP": "x"');
    expect(lines.slice(0, Number(line)).findLast((each) => each.includes('"name": "s'))).toContain(`"${name}"`);
  }
});

test('a position in JSON is found by its path, whatever its keys and strings contain', () => {
  const text = '{"a\\"}]": ["]", {"b": [1, {"c\\u0064": true}]}], "e": {}, "f": 1}';
  const places = new JsonPlaces(text);
  const at = (...path: (string | number)[]): string => text.slice(places.offsetOf(path));
  expect(at('a"}]', 1, 'b', 1, 'cd')).toMatch(/^"c\\u0064": true/);
  expect(at('a"}]', 1, 'b', 1)).toMatch(/^\{"c/);
  expect(at('f')).toBe('"f": 1}');
  expect(at('e', 'missing')).toMatch(/^"e"/);
});

test('a large file is parsed while other files are read, and deletions wait for it', async () => {
  const moved = serviceYaml('moved');
  const world = await startWorld({ 'big.json': listOf([service(1)]), 'small.yaml': moved });
  const { revision } = world;
  const items = [...Array.from({ length: 2000 }, (_, i) => service(i)), { ...service(1), metadata: { name: 'moved' } }];
  world.write({ 'big.json': listOf(items) });
  unlinkSync(join(world.directory, 'small.yaml'));
  world.write({ 'other.yaml': serviceYaml('other') });
  await world.until(() => world.services.includes('default/other'));
  expect(world.services).toEqual(['default/moved', 'default/other', 'default/s1']);
  expect([world.source.isComplete, world.revision]).toEqual([false, revision + 1]);
  let isMissing = false;
  world.tables.services.onChange(() => (isMissing ||= world.tables.services.get('default/moved') === undefined));
  await world.source.rescan();
  await world.settle();
  expect([world.tables.services.size, isMissing, world.source.isComplete]).toEqual([2002, false, true]);
});

test('a document that takes too long to parse is refused, and its objects keep their rows', async () => {
  const world = await startWorld({ 'w.yaml': serviceYaml('web') });
  // While the thread parses, the test advances the fake clock beyond the time limit of the parser.
  world.write({ 'w.yaml': `${serviceYaml('web', '10.96.0.9')}${'  # a comment\n'.repeat(60_000)}` });
  const done = world.source.rescan();
  while (world.messages.length === 0) {
    await new Promise((resolve) => void setImmediate(resolve));
    world.clock.advance(1000);
  }
  await done;
  expect(world.messages).toEqual(['w.yaml:1: the document takes more than 30 s to parse: divide it']);
  expect(world.tables.services.get('default/web')?.clusterIPs.IPv4).toBe('10.96.0.1');
  world.write({ 'w.yaml': serviceYaml('web', '10.96.0.9') });
  await world.until(() => world.tables.services.get('default/web')?.clusterIPs.IPv4 === '10.96.0.9');
  expect(world.messages).toEqual([]);
});

test('a file that would exceed the size limit for all files together is refused and named, whatever it contains', async () => {
  const comment = `#${'x'.repeat(31 * 2 ** 20)}\n`;
  const names = ['a.json', 'b.json', 'c.json', 'd.json', 'e.json'];
  const world = await startWorld({});
  for (const name of names) writeFileSync(join(world.directory, name), comment);
  await world.source.rescan();
  expect(world.messages.filter((message) => message.includes('larger than 128 MiB together'))).toEqual([
    'e.json: cannot be read: the files of the directory would be larger than 128 MiB together',
  ]);
});

test('objects of other kinds are not a problem, and are logged once', async () => {
  const other = (kind: string, apiVersion = 'apps/v1'): string => `apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata: {name: x}\n`;
  const texts = [
    other('Deployment'),
    other('Deployment'),
    other('Pod', 'v1'),
    other('Service', 'serving.knative.dev/v1'),
    serviceYaml('a'),
  ];
  const world = await startWorld({ 'a.yaml': texts.join('---\n') });
  expect([world.messages, world.source.isComplete, world.services]).toEqual([[], true, ['default/a']]);
  expect(world.source.omissions).toBe('ignores Deployment (2), Pod (1), Service of serving.knative.dev/v1 (1)');
  world.write({ 'b.yaml': other('Deployment') });
  await world.source.rescan();
  expect(world.source.omissions).toContain('Deployment (3)');
  expect(world.notes).toEqual([`${world.source.name} ignores Deployment (2), Pod (1), Service of serving.knative.dev/v1 (1)`]);
});

describe('a list that contains itself through YAML aliases', () => {
  // Each level has `count` lists, so 16 levels have count^16 of them.
  const bombs = [
    { name: 'in blocks', text: (count: number) => `kind: List\nitems: &*i\n${'- kind: List\n  items: **i\n'.repeat(count)}` },
    {
      name: 'in braces, after a quoted key',
      text: (count: number) => `&l {"kind":"List","items":&i [${Array(count).fill('{"kind":"List","items":*i}').join()}]}\n`,
    },
  ];

  test.for(bombs)('does not hold up the event loop: $name', async ({ text }) => {
    const world = await startWorld({ 'a.yaml': serviceYaml('a') });
    const stall = await stallDuring(async () => {
      world.write({ 'bomb.yaml': text(2) });
      await world.source.rescan();
      await world.settle();
    });
    expect(world.messages).toContainEqual(expect.stringMatching(/^bomb\.yaml:\d+: List: is nested more than 16 levels deep/));
    // In one turn of the event loop, it takes more than a second.
    expect(stall).toBeLessThan(1000);
  });

  test.for(bombs)('ends at the limit of objects: $name', ({ text }) => {
    const { findings, hasUnreadablePart } = parseDocument(text(10), false);
    expect([findings[0]?.text, hasUnreadablePart]).toEqual([
      'the document contains more than 250000 objects, with those that YAML aliases repeat',
      true,
    ]);
  });
});

test('a mapping with many keys costs as much as other text of its length, and a key that occurs twice is found', () => {
  const keys = Array.from({ length: 40_000 }, (_, n) => `k${n}`);
  const cpuOf = (text: string): number => {
    const before = process.cpuUsage();
    parseDocument(text, false);
    return process.cpuUsage(before).user;
  };
  const entries = keys.map((key) => `${key}: 1\n`).join('');
  const list = keys.map((key) => `- ${key}: 1\n`).join('');
  // With a comparison of each key with all others it takes a hundred times as long.
  expect(cpuOf(entries)).toBeLessThan(5 * cpuOf(list));
  const [finding] = parseDocument(`${entries}k39999: 2\n`, false).findings;
  expect([finding?.line, finding?.text]).toEqual([40_000, 'not valid YAML: a mapping contains the same key twice']);
});

// A parser that runs out of memory ends the whole daemon in one of several tries, so the text must be refused before.
test.for([
  {
    name: 'an object of two million keys',
    text: () => `{"kind":"Node","metadata":{"name":"n","labels":{${Array.from({ length: 2_000_000 }, (_, n) => `"k${n}":""`).join()}}}}`,
    want: 'not valid JSON: an object has more than 100000 keys',
  },
  {
    name: 'ten million objects',
    text: () => `{"kind":"List","items":[${'{},'.repeat(10_000_000)}{}]}`,
    want: 'not valid JSON: contains more than 3000000 values',
  },
  {
    name: 'ten million lists',
    text: () => `[${'[],'.repeat(10_000_000)}[]]`,
    want: 'not valid JSON: contains more than 3000000 values',
  },
])('JSON of $name is refused without parsing it', ({ text, want }) => {
  const json = text();
  collectGarbage();
  const before = process.memoryUsage().heapTotal;
  const { findings, hasUnreadablePart } = parseDocument(json, true);
  expect([findings.map((finding) => finding.text), hasUnreadablePart]).toEqual([[want], true]);
  // The values would take more than 200 MiB; the text itself is copied once.
  expect(process.memoryUsage().heapTotal - before).toBeLessThan(100 * 2 ** 20);
});

test('JSON with many values and keys within the limits is read', () => {
  const keys = Array.from({ length: 50_000 }, (_, n) => `"k${n}":"a,b"`).join();
  const { definitions, findings } = parseDocument(
    `{"kind":"List","items":[{"kind":"Node","metadata":{"name":"n","labels":{${keys}}}}]}`,
    true,
  );
  expect([definitions.length, findings]).toEqual([1, []]);
});
