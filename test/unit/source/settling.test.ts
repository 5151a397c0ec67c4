// SPDX-License-Identifier: Apache-2.0
// Files that a program changes again and again. However often the source happens to read such a file while it is empty, truncated or
// missing, no row is deleted or changed until the file has stayed as it is for settleMs.
import { renameSync, symlinkSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { changeStamp } from '../../../daemon/source/files/read-directory.ts';
import { serviceYaml, settleMs, startIn, startWorld, temporaryDirectory, type World, writeFiles } from './fixture.ts';

const text = `${serviceYaml('a')}---\n${serviceYaml('b', '10.96.0.1', 8080)}`;
const both = ['default/a', 'default/b'];
const complaint = 'w.yaml: changes all the time: what it lacks now is kept until the file has not changed for 100 ms';

/** What a program does again and again. After each round the file is incomplete. */
const programs: readonly { readonly name: string; readonly round: (path: string) => void; readonly last: readonly string[] }[] = [
  {
    name: 'writes and empties the file',
    round: (path) => {
      writeFileSync(path, text);
      truncateSync(path);
    },
    last: [],
  },
  {
    name: 'writes the file and cuts it within a number',
    round: (path) => {
      writeFileSync(path, text);
      truncateSync(path, text.length - '80\n'.length);
    },
    last: both,
  },
  {
    name: 'creates and removes the file',
    round: (path) => {
      writeFileSync(path, text);
      unlinkSync(path);
    },
    last: [],
  },
  {
    name: 'replaces the file by an empty one',
    round: (path) => {
      writeFileSync(`${path}.tmp`, text);
      renameSync(`${path}.tmp`, path);
      writeFileSync(`${path}.tmp`, '');
      renameSync(`${path}.tmp`, path);
    },
    last: [],
  },
];

/** Repeats the round for 11 s. A pause is shorter than settleMs, and two pauses are longer. */
async function repeat(world: World, round: () => void): Promise<void> {
  for (let passed = 0; passed < 11_000; passed += 0.8 * settleMs) {
    round();
    await world.eventsRead();
    world.clock.advance(0.8 * settleMs);
    await world.eventsRead();
    expect(world.services).toEqual(both);
    expect(world.tables.services.get('default/b')?.ports).toMatchObject([{ port: 8080 }]);
  }
}

test.for(programs)(
  'a file loses no row while a program $name, is reported after 10 s, and settles when the program ends',
  async (program) => {
    const world = await startWorld({ 'w.yaml': text, 'other.yaml': '# nothing\n' });
    const { revision } = world;
    const path = join(world.directory, 'w.yaml');
    await repeat(world, () => program.round(path));
    expect([world.revision, world.source.isComplete, world.messages]).toEqual([revision, false, [complaint]]);
    expect(world.log).toEqual([`+ ${complaint}`]);
    await world.settle();
    expect([world.services, world.source.isComplete, world.messages]).toEqual([program.last, true, []]);
    expect(world.log).toEqual([`+ ${complaint}`, `- ${complaint}`]);
  },
);

test('a file that is alternately complete and empty is reported after 10 s, and no longer when it stays complete', async () => {
  const world = await startWorld({ 'w.yaml': text });
  const path = join(world.directory, 'w.yaml');
  let isEmpty = false;
  await repeat(world, () => {
    isEmpty = !isEmpty;
    if (isEmpty) truncateSync(path);
    else writeFileSync(path, text);
  });
  expect(world.messages).toEqual([complaint]);
  writeFileSync(path, text);
  await world.settle();
  expect([world.services, world.source.isComplete, world.messages]).toEqual([both, true, []]);
});

test('the target of a link outside the directory, whose changes cause no event, loses no row while it is changed', async () => {
  const [directory, outside] = [temporaryDirectory(), temporaryDirectory()];
  writeFiles(outside, { 'target.yaml': text });
  const target = join(outside, 'target.yaml');
  symlinkSync(target, join(directory, 'w.yaml'));
  const world = await startIn(directory);
  truncateSync(target);
  await world.eventsRead();
  for (let round = 0; round < 5; round += 1) {
    // The kernel's time of a change advances in steps of some milliseconds.
    for (const before = changeStamp(directory, 'w.yaml'); changeStamp(directory, 'w.yaml') === before;) {
      writeFileSync(target, text);
      truncateSync(target);
    }
    world.clock.advance(settleMs);
    await world.eventsRead();
    expect([world.services, world.source.isComplete]).toEqual([both, false]);
  }
  await world.settle();
  expect([world.services, world.source.isComplete]).toEqual([[], true]);
});

test('the deletion of one file does not wait for another file that changes all the time', async () => {
  const world = await startWorld({ 'w.yaml': text, 'gone.yaml': serviceYaml('gone') });
  const path = join(world.directory, 'w.yaml');
  unlinkSync(join(world.directory, 'gone.yaml'));
  for (let passed = 0; passed < 3 * settleMs; passed += 0.8 * settleMs) {
    writeFileSync(path, text);
    truncateSync(path);
    await world.eventsRead();
    world.clock.advance(0.8 * settleMs);
    await world.eventsRead();
  }
  expect(world.services).toEqual(both);
});
