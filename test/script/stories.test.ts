// SPDX-License-Identifier: Apache-2.0
// Runs each story in stories/ with maps that work, and with maps in which one of ten writes fails. Each repetition (`npm run
// stress`) uses a different seed. An error message contains the seed.
import { globSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { runStory } from './story.ts';
import { parseTxtar } from './txtar.ts';

const folder = fileURLToPath(new URL('./stories/', import.meta.url));
const stories = globSync('*.txtar', { cwd: folder }).sort();

let seed = 0;

describe.for(stories)('%s', (file) => {
  const text = readFileSync(folder + file, 'utf8');
  const ways = /^(\d+ times )?api\//m.test(text) ? (['API server'] as const) : (['tables', 'API server'] as const);

  test.for(ways)('with maps that work, the story succeeds (objects written to %s)', async (through) => {
    await runStory(file, text, { faults: 0, seed: 0, through });
  });

  test.for(ways)('with maps in which one of ten writes fails, the story succeeds (objects written to %s)', async (through) => {
    seed += 1;
    await runStory(`${basename(file)} with seed ${seed}`, text, { faults: 0.1, seed, through });
  });
});

describe('the runner', () => {
  test('the runner finds stories', () => {
    expect(stories.length).toBeGreaterThan(5);
  });

  test('the runner splits a story into commands and files', () => {
    const { comment, files } = parseTxtar('# comment\nmaps/empty\n-- a.yaml --\nkind: A\n-- b --\n');
    expect(comment).toEqual(['# comment', 'maps/empty']);
    expect([...files]).toEqual([
      ['a.yaml', 'kind: A'],
      ['b', ''],
    ]);
  });

  test.for([
    { line: '! maps/empty', want: /must fail, but succeeded/ },
    { line: '! maps/emtpy', want: /unknown command maps\/emtpy/ },
    { line: '! k8s/add nothing.yaml', want: /no file nothing.yaml/ },
    { line: 'maps/cmp golden', want: /golden differs/ },
    { line: '! clock/advance soon', want: /not a time: soon/ },
    { line: 'k8s/delete service.yaml', want: /Service default\/web does not exist/ },
    { line: 'k8s/add service.yaml service.yaml', want: /already exists/ },
    { line: '! db/show tabel', want: /unknown table tabel/ },
    { line: '! api/serve', want: /there is no API server/ },
    { line: 'maps/keep golden', want: /at 0 ms, lines of golden are missing in the maps:\n {2}FE nothing/ },
    { line: '3 times k8s/add service.yaml', want: /already exists/ },
  ])('the runner reports "$line" with its place in the story', async ({ line, want }) => {
    const service = 'apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n';
    const text = `# first line\n${line}\n-- golden --\nFE nothing\n-- service.yaml --\n${service}`;
    await expect(runStory('story.txtar', text, { faults: 0, seed: 0 })).rejects.toThrow(want);
    await expect(runStory('story.txtar', text, { faults: 0, seed: 0 })).rejects.toThrow(/^story.txtar:2: /);
  });
});
