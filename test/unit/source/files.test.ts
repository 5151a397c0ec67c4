// SPDX-License-Identifier: Apache-2.0
// The files source with valid files: the files that it reads, the identity of objects, and the rows that it writes. Only rows that
// differ are written.
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { kindNames } from '../../../daemon/source/kinds.ts';
import { tableOf } from '../../../daemon/source/tables.ts';
import { nodeRow } from '../../support/builders.ts';
import { serviceYaml, settleMs, sliceYaml, startIn, startWorld, temporaryDirectory, World, writeFiles } from './fixture.ts';

const nodeJson = (name: string): string => JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name } });
const listOf = (kind: string, items: readonly object[]): string => JSON.stringify({ apiVersion: 'v1', kind, items });

describe('the source reads', () => {
  test('the source reads every *.yaml, *.yml and *.json file that is not hidden, and no subfolder', async () => {
    const world = await startWorld({
      'a.yaml': serviceYaml('a'),
      'b.yml': sliceYaml('b'),
      'c.json': nodeJson('c'),
      '.hidden.yaml': serviceYaml('hidden'),
      'd.yaml~': serviceYaml('backup'),
      'e.txt': serviceYaml('text'),
      'below/f.yaml': serviceYaml('below'),
    });
    expect(world.messages).toEqual([]);
    expect(world.services).toEqual(['default/a']);
    expect(world.slices).toEqual(['default/b']);
    expect([...world.tables.nodes.all()]).toEqual([['c', nodeRow('c')]]);
    expect(world.source.isComplete).toBe(true);
  });

  test.for([
    {
      name: 'comments, empty documents and CRLF',
      text: `# first\n---\n${serviceYaml('a')}---\n---\n# nothing\n---\n${serviceYaml('b').replaceAll('\n', '\r\n')}`,
    },
    { name: 'a directive and an end marker', text: `%YAML 1.2\n---\n${serviceYaml('a')}...\n---\n${serviceYaml('b')}...\n` },
    { name: 'a "---" line in a string', text: `${serviceYaml('a')}  note: |\n    ---\n    kind: Service\n---\n${serviceYaml('b')}` },
    {
      name: 'JSON among YAML',
      text: `${serviceYaml('a')}---\n${JSON.stringify({ kind: 'Service', metadata: { name: 'b' }, spec: { clusterIP: '10.0.0.1' } })}\n`,
    },
    { name: 'a byte order mark', text: `\u{feff}${serviceYaml('a')}---\n${serviceYaml('b')}` },
    {
      name: 'anchors and merge keys',
      text: `kind: List\nitems:\n- &a\n  kind: Service\n  metadata: {name: a}\n  spec: &spec {clusterIP: 10.0.0.1}\n- <<: *a\n  metadata: {name: b}\n  spec: *spec\n`,
    },
  ])('the source reads several documents in one file: $name', async ({ text }) => {
    const world = await startWorld({ 'a.yaml': text });
    expect(world.messages).toEqual([]);
    expect(world.services).toEqual(['default/a', 'default/b']);
  });

  test('the source reads lists of several kinds, lists of one kind whose items have no kind, nested lists and empty lists', async () => {
    const service = (name: string) => ({ metadata: { name }, spec: { clusterIP: '10.0.0.1' } });
    const nested = listOf('List', [{ kind: 'Service', ...service('a') }, JSON.parse(listOf('ServiceList', [service('b')])) as object]);
    const slice = { metadata: { name: 's', labels: { 'kubernetes.io/service-name': 'a' } }, addressType: 'IPv4', ports: [{ port: 1 }] };
    const world = await startWorld({
      'a.json': nested,
      'b.json': listOf('EndpointSliceList', [slice]),
      'c.yaml': 'kind: List\nitems:\n',
      'd.json': listOf('NodeList', [{ metadata: { name: 'n' } }]),
      'e.json': ' \n',
    });
    expect(world.messages).toEqual([]);
    expect([...world.services, ...world.slices, world.tables.nodes.size]).toEqual(['default/a', 'default/b', 'default/s', 1]);
  });
});

describe('the first scan', () => {
  test('the first scan initializes the tables, which are not initialized before', async () => {
    const directory = temporaryDirectory();
    const world = new World(directory);
    expect(world.tables.services.initialized).toBe(false);
    const initialized = (): Set<boolean> => new Set(kindNames.map((kind) => tableOf(world.tables, kind).initialized));
    const started = world.source.start();
    onTestFinished(() => world.source.stop());
    expect(initialized()).toEqual(new Set([false]));
    await started;
    expect(initialized()).toEqual(new Set([true]));
  });

  test('no scan is made after the signal is aborted', async () => {
    const stopping = new AbortController();
    const world = new World(temporaryDirectory());
    await world.source.start(stopping.signal);
    world.write({ 'a.yaml': serviceYaml('a') });
    stopping.abort();
    await world.source.rescan();
    await world.source.stop();
    expect(world.services).toEqual([]);
  });
});

describe('a change', () => {
  test('a file that appears, changes and disappears is applied', async () => {
    const world = await startWorld({ 'a.yaml': serviceYaml('a') });
    world.write({ 'b.yaml': serviceYaml('b') });
    await world.until(() => world.services.length === 2);
    world.write({ 'b.yaml': serviceYaml('b', '10.96.0.2') });
    await world.until(() => world.tables.services.get('default/b')?.clusterIPs.IPv4 === '10.96.0.2');
    unlinkSync(join(world.directory, 'b.yaml'));
    await world.settle();
    expect(world.services).toEqual(['default/a']);
    expect(world.log).toEqual([]);
  });

  test('a file that a rename replaces is applied', async () => {
    const world = await startWorld({ 'a.yaml': serviceYaml('a'), '.a.yaml.tmp': serviceYaml('a', '10.96.0.9') });
    renameSync(join(world.directory, '.a.yaml.tmp'), join(world.directory, 'a.yaml'));
    await world.until(() => world.tables.services.get('default/a')?.clusterIPs.IPv4 === '10.96.0.9');
  });

  test('a change of a file that could not be read is noticed after a growing delay, without an event', async () => {
    const elsewhere = join(temporaryDirectory(), 'target.yaml');
    const directory = temporaryDirectory();
    symlinkSync(elsewhere, join(directory, 'a.yaml'));
    const world = await startIn(directory);
    expect(world.messages).toHaveLength(1);
    const waits: number[] = [];
    for (let round = 0; round < 8; round += 1) {
      waits.push((world.clock.nextTimer ?? 0) - world.clock.now());
      world.clock.advance(waits.at(-1) ?? 0);
      await world.source.rescan();
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    // The directory that contains the target is not watched, so the creation of the target causes no event.
    writeFileSync(elsewhere, serviceYaml('a'));
    world.clock.advance(60_000);
    await world.until(() => world.services.length === 1);
    expect([world.source.isComplete, world.messages, world.clock.nextTimer]).toEqual([true, [], undefined]);
  });

  test('a change of one object in a file of many objects writes one row', async () => {
    const many = (changed: string): string =>
      Array.from({ length: 500 }, (_, i) => serviceYaml(`s${i}`, i === 250 ? changed : '10.0.0.1')).join('---\n');
    const world = await startWorld({ 'many.yaml': many('10.0.0.1') });
    const { revision } = world;
    world.write({ 'many.yaml': many('10.0.0.2') });
    await world.until(() => world.tables.services.get('default/s250')?.clusterIPs.IPv4 === '10.0.0.2');
    expect(world.revision).toBe(revision + 1);
  });

  test('a change of comments or of the order of fields writes no row', async () => {
    const world = await startWorld({
      'a.yaml': `${serviceYaml('a')}---\n${sliceYaml('s')}`,
      'n.json': nodeJson('n'),
      'x.yaml': 'kind: Pod\n',
    });
    const { revision } = world;
    const log = [...world.log];
    await world.source.rescan();
    world.write({
      'a.yaml': `# moved down\n${sliceYaml('s')}\n---\n${serviceYaml('a')}`,
      'n.json': '{"kind":"Node","metadata":{"name":"n"},"apiVersion":"v1"}',
    });
    await world.settle();
    expect(world.revision).toBe(revision);
    expect(world.log).toEqual(log);
  });

  test('the move of an object to another file never deletes its row', async () => {
    const world = await startWorld({ 'a.yaml': `${serviceYaml('a')}---\n${serviceYaml('m')}` });
    const { revision } = world;
    world.write({ 'b.yaml': serviceYaml('m'), 'a.yaml': serviceYaml('a') });
    await world.settle();
    world.write({ 'b.yaml': serviceYaml('m', '10.96.0.7') });
    await world.until(() => world.tables.services.get('default/m')?.clusterIPs.IPv4 === '10.96.0.7');
    expect(world.revision).toBe(revision + 1);
    expect(world.messages).toEqual([]);
  });

  test('a Service that becomes headless loses its row, and gets it back when it is no longer headless', async () => {
    const world = await startWorld({ 'a.yaml': serviceYaml('a') });
    world.write({ 'a.yaml': serviceYaml('a', 'None') });
    await world.until(() => world.services.length === 0);
    world.write({ 'a.yaml': serviceYaml('a') });
    await world.until(() => world.services.length === 1);
  });
});

describe('a link', () => {
  /**
   * Updates a ConfigMap volume as the kubelet does. Each file is a link into ..data. ..data is a link to the folder of the present
   * version.
   */
  function publish(directory: string, version: string, files: Record<string, string>): void {
    writeFiles(join(directory, version), files);
    symlinkSync(version, join(directory, '..data_tmp'));
    renameSync(join(directory, '..data_tmp'), join(directory, '..data'));
  }

  test('a link is followed when a ConfigMap volume is updated', async () => {
    const directory = temporaryDirectory();
    publish(directory, '..2026_1', { 'a.yaml': serviceYaml('a'), 'b.yaml': serviceYaml('b') });
    for (const name of ['a.yaml', 'b.yaml']) symlinkSync(join('..data', name), join(directory, name));
    const world = await startIn(directory);
    expect(world.services).toEqual(['default/a', 'default/b']);
    publish(directory, '..2026_2', { 'a.yaml': serviceYaml('a', '10.96.0.2') });
    await world.until(() => world.tables.services.get('default/a')?.clusterIPs.IPv4 === '10.96.0.2');
    // The kubelet removes the link b.yaml last. Until then the link has no target, and the row of b must stay.
    await world.until(() =>
      world.messages.some((message) => message === 'b.yaml: cannot be read: the target of the symbolic link does not exist'),
    );
    expect(world.services).toEqual(['default/a', 'default/b']);
    unlinkSync(join(directory, 'b.yaml'));
    rmSync(join(directory, '..2026_1'), { recursive: true });
    await world.settle();
    expect(world.services).toEqual(['default/a']);
    expect(world.messages).toEqual([]);
  });

  // "secret" stands for the content of a file such as /etc/shadow.
  test.for([
    { name: 'text that is no object', text: 'secret\n' },
    { name: 'a wrong value', text: 'apiVersion: v1\nkind: Service\nmetadata: {name: secret-name}\nspec: {clusterIP: secret}\n' },
    { name: 'a wrong name', text: 'apiVersion: v1\nkind: Service\nmetadata: {name: [secret]}\n' },
    { name: 'a wrong kind', text: 'kind: [secret]\n' },
    { name: 'another kind', text: 'apiVersion: v1\nkind: Secret-secret\nmetadata: {name: secret}\n' },
    { name: 'a key that occurs twice', text: '{"secret": 1, "secret": 2}\n' },
  ])('no message quotes a private file outside the directory: $name', async ({ text }) => {
    const [directory, outside] = [temporaryDirectory(), temporaryDirectory()];
    const target = join(outside, 'target');
    writeFiles(outside, { target: text });
    chmodSync(target, 0o600);
    symlinkSync(target, join(directory, 'w.yaml'));
    const world = await startIn(directory);
    const shown = JSON.stringify([world.source.problems(), world.log, world.notes, world.source.omissions]);
    expect(shown).not.toMatch(/secret/i);
    expect(world.messages.length + world.source.omissions.length).toBeGreaterThan(0);
    // A file that everyone may read is quoted.
    chmodSync(target, 0o644);
    await world.settle();
    expect(JSON.stringify([world.source.problems(), world.source.omissions])).toMatch(/secret|same key twice/i);
  });

  test('a private file in a folder of the directory, as in a Secret volume, is quoted', async () => {
    const directory = temporaryDirectory();
    publish(directory, '..2026_1', { 'a.yaml': serviceYaml('a', 'wrong') });
    chmodSync(join(directory, '..2026_1/a.yaml'), 0o400);
    symlinkSync('..data/a.yaml', join(directory, 'a.yaml'));
    const world = await startIn(directory);
    expect(world.messages).toEqual(['a.yaml:6: Service default/a spec.clusterIP: must be an IP address, is "wrong"']);
  });

  test.for([
    { name: 'the directory itself', path: 'current' },
    { name: 'a folder on its path', path: 'current/below' },
  ])('a link is followed to a new target: $name', async ({ path }) => {
    const root = temporaryDirectory();
    writeFiles(root, { '1/a.yaml': serviceYaml('a'), '1/below/a.yaml': serviceYaml('a') });
    writeFiles(root, { '2/a.yaml': serviceYaml('a', '10.96.0.2'), '2/below/a.yaml': serviceYaml('a', '10.96.0.2') });
    symlinkSync('1', join(root, 'current'));
    const world = await startIn(join(root, path));
    symlinkSync(join(root, '2'), join(root, 'new'));
    renameSync(join(root, 'new'), join(root, 'current'));
    await world.until(() => world.tables.services.get('default/a')?.clusterIPs.IPv4 === '10.96.0.2');
    writeFileSync(join(root, path, 'b.yaml'), serviceYaml('b'));
    await world.until(() => world.services.length === 2);
    expect(world.messages).toEqual([]);
  });
});

describe('the directory', () => {
  const missing = (directory: string): RegExp => new RegExp(`^${directory}: cannot be read: no such file or directory`);

  test('a directory that does not exist at the start is reported, and is read when it appears', async () => {
    const directory = join(temporaryDirectory(), 'not/yet');
    const world = await startIn(directory);
    expect(world.messages).toEqual([expect.stringMatching(missing(directory))]);
    expect([world.tables.services.initialized, world.source.isComplete]).toEqual([false, false]);
    world.write({ 'a.yaml': serviceYaml('a') });
    await world.until(() => world.services.length === 1);
    expect([world.tables.services.initialized, world.source.isComplete, world.messages]).toEqual([true, true, []]);
  });

  test('a directory that is removed keeps its rows, and is read when it is created again', async () => {
    const world = await startIn(join(temporaryDirectory(), 'services'));
    world.write({ 'a.yaml': serviceYaml('a'), 'b.yaml': serviceYaml('b') });
    await world.until(() => world.services.length === 2);
    rmSync(world.directory, { recursive: true });
    await world.until(() => world.log.some((line) => missing(world.directory).test(line.slice(2))));
    world.clock.advance(60_000);
    await world.source.rescan();
    expect(world.services).toEqual(['default/a', 'default/b']);
    expect(world.source.isComplete).toBe(false);

    mkdirSync(world.directory);
    await world.settle();
    world.write({ 'a.yaml': serviceYaml('a', '10.96.0.2') });
    await world.until(() => world.tables.services.get('default/a')?.clusterIPs.IPv4 === '10.96.0.2');
    await world.settle();
    expect(world.services).toEqual(['default/a']);
    expect([world.source.isComplete, world.messages]).toEqual([true, []]);
  });

  test('a directory that cannot be watched is tried again with growing delays', async () => {
    const directory = join(temporaryDirectory(), 'late');
    const world = await startIn(directory);
    const waits: number[] = [];
    for (let round = 0; round < 8; round += 1) {
      const wait = (world.clock.nextTimer ?? 0) - world.clock.now();
      waits.push(wait);
      world.clock.advance(wait);
    }
    expect(waits).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  });

  test('an empty directory is reported, and the source is complete', async () => {
    const world = await startWorld({});
    expect(world.messages).toEqual([`${world.directory}: contains no *.yaml, *.yml or *.json file`]);
    expect([world.source.isComplete, world.tables.services.initialized]).toEqual([true, true]);
    world.write({ 'a.yaml': serviceYaml('a') });
    await world.until(() => world.services.length === 1);
    expect(world.messages).toEqual([]);
  });

  test('a directory that is emptied loses all rows after settleMs', async () => {
    const world = await startWorld({ 'a.yaml': serviceYaml('a') });
    unlinkSync(join(world.directory, 'a.yaml'));
    await world.source.rescan();
    expect([world.services, world.source.isComplete]).toEqual([['default/a'], false]);
    world.clock.advance(settleMs);
    await world.until(() => world.services.length === 0);
    expect(world.source.isComplete).toBe(true);
  });
});
