// SPDX-License-Identifier: Apache-2.0
// Checks the Markdown files of the repository: README.md has at most 200 lines, and every relative link leads to a file that
// exists and to a heading of that file. It must never change a file. check.ts starts it.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** A reader must be able to read README.md in five minutes. Details belong in the README of a folder. */
const MOST_README_LINES = 200;

/** The anchor that GitHub makes of a heading: lower case, no punctuation, hyphens for blanks. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .trim()
    .replaceAll(' ', '-');

/** The text of a Markdown file without its code blocks, in which "#" and brackets have another meaning. */
const proseOf = (path: string): string => readFileSync(path, 'utf8').replaceAll(/^```.*?^```$/gms, '');

const anchorsOf = (path: string): Set<string> =>
  new Set([...proseOf(path).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading)));

/** One line for each link of the file that leads nowhere. */
function brokenLinks(path: string): string[] {
  return [...proseOf(path).matchAll(/\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)/g)].flatMap(([, file = '', anchor]) => {
    const target = file === '' ? path : relative('.', join(dirname(path), file));
    if (!existsSync(target)) return [`${path}: ${target} does not exist`];
    if (anchor !== undefined && !anchorsOf(target).has(anchor)) return [`${path}: ${target} has no heading for #${anchor}`];
    return [];
  });
}

const files = globSync(['*.md', '.github/**/*.md', '{daemon,datapath,cni,proto,deploy,test}/**/*.md']).filter(
  (path) => !path.includes('/gen/'),
);
const readmeLines = readFileSync('README.md', 'utf8').trimEnd().split('\n').length;
const faults = [
  ...(readmeLines > MOST_README_LINES ? [`README.md has ${readmeLines} lines, at most ${MOST_README_LINES} are allowed`] : []),
  ...files.flatMap((path) => brokenLinks(path)),
];
for (const fault of faults) process.stdout.write(`${fault}\n`);
process.exitCode = faults.length > 0 ? 1 : 0;
