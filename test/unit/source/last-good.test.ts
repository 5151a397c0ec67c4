// SPDX-License-Identifier: Apache-2.0
// Rows while files are being changed. If the new text of an object is invalid, truncated or missing, the object keeps its row at
// first. The final state depends only on the files.
import { appendFileSync, truncateSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { portRow } from '../../support/builders.ts';
import { serviceYaml, settleMs, startIn, startWorld, temporaryDirectory, World, writeFiles } from './fixture.ts';

describe('the last valid row stays', () => {
  const two = `${serviceYaml('a')}---\n${serviceYaml('b')}`;

  test('the last valid rows stay for objects that only an invalid document defines', async () => {
    const world = await startWorld({ 'w.yaml': two });
    world.write({ 'w.yaml': `${serviceYaml('a', '10.96.0.2')}---\nkind: Service\nmetadata: {name: b\n---\n${serviceYaml('c')}` });
    await world.until(() => world.services.length === 3);
    await world.settle();
    expect(world.services).toEqual(['default/a', 'default/b', 'default/c']);
    expect(world.tables.services.get('default/a')?.clusterIPs.IPv4).toBe('10.96.0.2');
    expect(world.source.isComplete).toBe(false);
    world.write({ 'w.yaml': serviceYaml('a') });
    await world.settle();
    expect([world.services, world.source.isComplete, world.messages]).toEqual([['default/a'], true, []]);
  });

  test('the last valid row stays for an object whose new version is invalid; the problem and its end are each logged once', async () => {
    const world = await startWorld({ 'w.yaml': two });
    const message = 'w.yaml:17: Service default/b spec.ports[0].port: must be 1..65535, is 70000';
    world.write({ 'w.yaml': `${serviceYaml('a')}---\n${serviceYaml('b', '10.96.0.1', 70000)}` });
    await world.until(() => world.log.length === 1);
    await world.settle();
    expect(world.tables.services.get('default/b')?.ports).toEqual([portRow()]);
    expect(world.source.isComplete).toBe(false);
    world.write({ 'w.yaml': `# one line more\n${serviceYaml('a')}---\n${serviceYaml('b', '10.96.0.1', 70000)}` });
    await world.settle();
    expect(world.log).toEqual([`+ ${message}`]);
    expect(world.messages).toEqual([message.replace('17', '18')]);
    world.write({ 'w.yaml': two });
    await world.until(() => world.log.length === 2);
    expect(world.log[1]).toBe(`- ${message.replace('17', '18')}`);
    expect(world.source.isComplete).toBe(true);
  });

  test('the last valid row stays for an object that moves to another file and is invalid there', async () => {
    const world = await startWorld({ 'a.yaml': serviceYaml('a') });
    world.write({ 'b.yaml': serviceYaml('a', 'x') });
    unlinkSync(join(world.directory, 'a.yaml'));
    await world.settle();
    expect(world.services).toEqual(['default/a']);
    unlinkSync(join(world.directory, 'b.yaml'));
    await world.settle();
    expect(world.services).toEqual([]);
  });

  test('the last valid rows stay for all objects of a file in which an object loses its name', async () => {
    const world = await startWorld({ 'w.yaml': two });
    world.write({ 'w.yaml': two.replace('name: b', 'name: [b]') });
    await world.settle();
    expect(world.services).toEqual(['default/a', 'default/b']);
    expect(world.messages).toEqual(['w.yaml:13: Service metadata.name: must be a name, is ["b"]']);
  });
});

describe('a file that is written in several steps', () => {
  const text = `${serviceYaml('a')}---\n${serviceYaml('b', '10.96.0.1', 8080)}`;
  const ports = (name: string) => ({ ports: [{ port: name === 'b' ? 8080 : 80 }] });

  test('a file that is emptied before it is written loses no row, and its final text takes effect at once', async () => {
    const world = await startWorld({ 'w.yaml': text });
    const { revision } = world;
    truncateSync(join(world.directory, 'w.yaml'));
    await world.source.rescan();
    expect([world.services, world.source.isComplete]).toEqual([['default/a', 'default/b'], false]);
    world.write({ 'w.yaml': text });
    await world.source.rescan();
    expect([world.revision, world.source.isComplete, world.log]).toEqual([revision, true, []]);
  });

  test('a file that stays empty loses its rows after settleMs', async () => {
    const world = await startWorld({ 'w.yaml': text });
    truncateSync(join(world.directory, 'w.yaml'));
    await world.settle();
    expect([world.services, world.source.isComplete]).toEqual([[], true]);
  });

  test('a file that is removed and created again, as git does, loses no row', async () => {
    const world = await startWorld({ 'w.yaml': text });
    const { revision } = world;
    unlinkSync(join(world.directory, 'w.yaml'));
    await world.source.rescan();
    expect(world.source.isComplete).toBe(false);
    world.write({ 'w.yaml': text });
    await world.source.rescan();
    world.clock.advance(settleMs);
    await world.source.rescan();
    expect([world.revision, world.source.isComplete]).toEqual([revision, true]);
  });

  test('the last document of a file without a final newline is used after settleMs', async () => {
    const world = await startWorld({ 'w.yaml': text });
    truncateSync(join(world.directory, 'w.yaml'), text.length - '80\n'.length);
    await world.source.rescan();
    expect(world.tables.services.get('default/b')).toMatchObject(ports('b'));
    world.clock.advance(settleMs);
    await world.source.rescan();
    expect(world.tables.services.get('default/b')).toMatchObject({ ports: [{ port: 80 }] });
  });

  test('while a file is written in pieces, no row is deleted or wrong, and the complete text takes effect', async () => {
    const world = await startWorld({ 'w.yaml': text });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: text.length }), { maxLength: 4 }), async (cuts) => {
        let written = 0;
        truncateSync(join(world.directory, 'w.yaml'));
        for (const cut of cuts.toSorted((a, b) => a - b)) {
          appendFileSync(join(world.directory, 'w.yaml'), text.slice(written, cut));
          written = cut;
          await world.source.rescan();
          expect(world.services).toEqual(['default/a', 'default/b']);
          expect(world.tables.services.get('default/b')?.ports.every(({ port }) => port === 8080)).toBe(true);
        }
        appendFileSync(join(world.directory, 'w.yaml'), text.slice(written));
        await world.source.rescan();
        expect([world.source.isComplete, world.messages]).toEqual([true, []]);
        expect(world.tables.services.get('default/b')).toMatchObject(ports('b'));
      }),
      { numRuns: 50 },
    );
  });
});

describe('a file that disappears during a scan', () => {
  // A scan needs several turns for this number of files, so the test can delete the last file after the scan has listed it.
  const names = Array.from({ length: 100 }, (_, i) => `f${String(i).padStart(3, '0')}`);
  const files = Object.fromEntries(names.map((name) => [`${name}.yaml`, serviceYaml(name)]));
  const others = names.slice(0, -1).map((name) => `default/${name}`);

  test('a file that disappears during the first scan is ignored', async () => {
    const directory = temporaryDirectory();
    writeFiles(directory, files);
    const world = new World(directory);
    onTestFinished(() => world.source.stop());
    const started = world.source.start();
    await nextTurn();
    unlinkSync(join(directory, 'f099.yaml'));
    await started;
    expect([world.services, world.messages, world.source.isComplete]).toEqual([others, [], true]);
  });

  test('a file that disappears during a later scan makes the source incomplete; its row is deleted if the file stays missing', async () => {
    const world = await startWorld(files);
    const scan = world.source.rescan();
    await nextTurn();
    unlinkSync(join(world.directory, 'f099.yaml'));
    await scan;
    expect([world.services.length, world.source.isComplete]).toEqual([100, false]);
    await world.settle();
    expect([world.services, world.messages, world.source.isComplete]).toEqual([others, [], true]);
  });
});

test('the choice between several definitions of an object does not depend on the order of events', async () => {
  const step = fc.record({ file: fc.constantFrom('a', 'b', 'c'), address: fc.option(fc.constantFrom('10.0.0.1', '10.0.0.2')) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 6 }), async (steps) => {
      const world = await startIn(temporaryDirectory());
      for (const { file, address } of steps) {
        world.write({ [`${file}.yaml`]: address === null ? '# nothing\n' : serviceYaml('web', address) });
        await world.settle();
      }
      const fresh = await startIn(world.directory);
      expect(world.messages).toEqual(fresh.messages);
      expect([...world.tables.services.all()]).toEqual([...fresh.tables.services.all()]);
      await world.source.stop();
      await fresh.source.stop();
    }),
    { numRuns: 40 },
  );
});
