// SPDX-License-Identifier: Apache-2.0
// Every story in stories/, once on good maps and once on maps that fail one write in ten. Each repetition (`npm run
// stress`) takes another seed; the name of a failing one says which.
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

  test.for(ways)('on good maps, through %s', async (through) => {
    await runStory(file, text, { faults: 0, seed: 0, through });
  });

  test.for(ways)('on maps that fail one write in ten, through %s', async (through) => {
    seed += 1;
    await runStory(`${basename(file)} with seed ${seed}`, text, { faults: 0.1, seed, through });
  });
});

describe('the runner itself', () => {
  test('there are stories', () => {
    expect(stories.length).toBeGreaterThan(5);
  });

  test('a story is split into commands and files', () => {
    const { comment, files } = parseTxtar('# told\nmaps/empty\n-- a.yaml --\nkind: A\n-- b --\n');
    expect(comment).toEqual(['# told', 'maps/empty']);
    expect([...files]).toEqual([
      ['a.yaml', 'kind: A'],
      ['b', ''],
    ]);
  });

  test.for([
    { line: '! maps/empty', want: /must fail, and succeeded/ },
    { line: '! maps/emtpy', want: /no command maps\/emtpy/ },
    { line: '! k8s/add nothing.yaml', want: /no file nothing.yaml/ },
    { line: 'maps/cmp golden', want: /golden differs/ },
    { line: '! clock/advance soon', want: /not a time: soon/ },
    { line: 'k8s/delete service.yaml', want: /Service default\/web is not there/ },
    { line: 'k8s/add service.yaml service.yaml', want: /is there already/ },
    { line: '! db/show tabel', want: /no table tabel/ },
    { line: '! api/serve', want: /there is no API server/ },
    { line: 'maps/keep golden', want: /at 0 ms the maps lack of golden\n {2}FE nothing/ },
    { line: '3 times k8s/add service.yaml', want: /is there already/ },
  ])('"$line" fails, and says where', async ({ line, want }) => {
    const service = 'apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n';
    const text = `# first line\n${line}\n-- golden --\nFE nothing\n-- service.yaml --\n${service}`;
    await expect(runStory('told.txtar', text, { faults: 0, seed: 0 })).rejects.toThrow(want);
    await expect(runStory('told.txtar', text, { faults: 0, seed: 0 })).rejects.toThrow(/^told.txtar:2: /);
  });
});
