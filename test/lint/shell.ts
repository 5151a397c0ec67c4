// SPDX-License-Identifier: Apache-2.0
// Runs shellcheck over every shell script of the repository, over the shell code of the containers in deploy/sluice.yaml, and
// over the RUN instructions of deploy/Dockerfile. It must never change a file. Started by check.ts. The run steps of
// workflows are checked by actionlint, which calls shellcheck.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import { shellSources } from './sources.ts';

/** Shell code that is part of another file. */
interface Snippet {
  readonly name: string;
  readonly code: string;
}

interface Container {
  readonly name: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
}

interface Workload {
  readonly spec?: {
    readonly template?: { readonly spec?: { readonly initContainers?: readonly Container[]; readonly containers?: readonly Container[] } };
  };
}

/** The shell code of containers whose command is sh or bash with -c. */
function containerSnippets(file: string): Snippet[] {
  return parseAllDocuments(readFileSync(file, 'utf8')).flatMap((document) => {
    const pod = (document.toJS() as Workload | null)?.spec?.template?.spec;
    return [...(pod?.initContainers ?? []), ...(pod?.containers ?? [])].flatMap(({ name, command = [], args = [] }) => {
      const [shell = '', options = '', code] = [...command, ...args];
      const isShell = /^(.*\/)?(sh|bash)$/.test(shell) && /^-[a-z]*c$/.test(options);
      return isShell && code !== undefined ? [{ name: `${file}, container ${name}`, code }] : [];
    });
  });
}

/** The shell code of RUN instructions, with continued lines joined. */
function runSnippets(file: string): Snippet[] {
  const instructions = readFileSync(file, 'utf8')
    .replaceAll('\\\n', ' ')
    .matchAll(/^RUN (?!\[)(.+)$/gm);
  return [...instructions].map(([, code = '']) => ({ name: `${file}, RUN ${code.slice(0, 40)}`, code }));
}

/** The output of shellcheck; '' if it found nothing. */
function shellcheck(args: readonly string[], input = ''): string {
  const run = spawnSync('shellcheck', args, { encoding: 'utf8', input });
  if (run.error) return `shellcheck cannot be started: ${run.error.message}`;
  return run.status === 0 ? '' : run.stdout + run.stderr;
}

const scripts = shellSources();
if (scripts.length === 0) throw new Error('no shell script was found: test/lint/sources.ts is wrong');
const findings = [
  shellcheck(scripts),
  ...[...containerSnippets('deploy/sluice.yaml'), ...runSnippets('deploy/Dockerfile')].map(({ name, code }) => {
    const finding = shellcheck(['--shell=sh', '-'], code);
    return finding === '' ? '' : `${name}:\n${finding}`;
  }),
].filter((finding) => finding !== '');
for (const finding of findings) console.error(finding);
process.exitCode = findings.length === 0 ? 0 : 1;
