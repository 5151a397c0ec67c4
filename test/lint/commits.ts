// SPDX-License-Identifier: Apache-2.0
// Checks the subjects of the commits after `base`: "folder: imperative", at most 72 characters. Merge commits and commits of
// Dependabot are exempt. Without git, or without the history, it prints "skipped: <reason>". It must never change the repository.
// check.ts starts it.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** The last commit before the rule was introduced. It and its ancestors are exempt. */
const base = 'bedd0049db6317d5b07790bbd982a7e33a95200a';
/** Maximum number of commits to check in a shallow clone that does not contain `base`. */
const shallowLimit = 50;

/** Verbs in the imperative that have the ending of a participle. */
const verbs = new Set(['bring', 'embed', 'exceed', 'feed', 'need', 'ping', 'proceed', 'seed', 'shed', 'speed', 'string', 'succeed']);

/** The error in a subject; undefined if the subject is correct. */
export function subjectFault(subject: string): string | undefined {
  if (subject.length > 72) return `has ${subject.length} characters, at most 72 are allowed`;
  const [, verb] = /^[\w./-]+(?:, [\w./-]+)*: ([^\s,]+)/.exec(subject) ?? [];
  if (verb === undefined) return 'does not begin with a room, such as "datapath: "';
  const isParticiple = /(ed|ing)$/.test(verb) && !verbs.has(verb);
  if (isParticiple) return `is not imperative: "${verb}"`;
  return subject.endsWith('.') ? 'ends with a full stop' : undefined;
}

function git(...args: string[]): string | undefined {
  const run = spawnSync('git', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  return run.status === 0 ? run.stdout.trim() : undefined;
}

/** Arguments of git log that select the commits to check, or the reason why no commit can be checked. */
function commitsToCheck(): readonly string[] | string {
  if (!existsSync('.git')) return 'no .git';
  if (git('rev-parse', '--verify', 'HEAD') === undefined) return 'git is missing or cannot read the repository';
  if (git('cat-file', '-e', `${base}^{commit}`) !== undefined) return [`${base}..HEAD`];
  if (git('rev-parse', '--is-shallow-repository') === 'true') return [`--max-count=${shallowLimit}`, 'HEAD'];
  return 'the history does not contain the base commit';
}

/** One line for each commit whose subject is wrong. */
function faults(range: readonly string[]): string[] {
  const log = git('log', '--no-merges', '--format=%h%x00%an%x00%s', ...range);
  if (log === undefined) throw new Error(`git log ${range.join(' ')} failed`);
  return log.split('\n').flatMap((line) => {
    const [commit = '', author, subject = ''] = line.split('\0');
    const fault = commit === '' || author === 'dependabot[bot]' ? undefined : subjectFault(subject);
    return fault === undefined ? [] : [`${commit} "${subject}" ${fault}`];
  });
}

if (import.meta.main) {
  const range = commitsToCheck();
  if (typeof range === 'string') {
    console.log(`skipped: ${range}`);
  } else {
    const found = faults(range);
    for (const fault of found) console.error(fault);
    process.exitCode = found.length === 0 ? 0 : 1;
  }
}
