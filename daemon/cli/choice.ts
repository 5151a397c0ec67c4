// SPDX-License-Identifier: Apache-2.0
// A flag whose value is one of a few words. Pure. Called by the definitions of the commands.
import { Option } from 'commander';
import { ExitCode, ExitError } from '../base/errors.ts';

/** The option. Another value is rejected with an ExitError that lists the words. */
export function choice(flags: string, description: string, words: readonly string[]): Option {
  const option = new Option(flags, description);
  // The help lists argChoices. Commander's choices() would reject another value with a sentence of its own.
  option.argChoices = [...words];
  return option.argParser((word: string) => {
    if (words.includes(word)) return word;
    throw new ExitError(ExitCode.usage, `--${option.name()} must be ${listed(words)}, is "${word}"`);
  });
}

/** "table, wide or json". */
const listed = (words: readonly string[]): string => [words.slice(0, -1).join(', '), ...words.slice(-1)].join(' or ');

/** The flag -o of every command that prints something. */
export const output = (...formats: string[]): Option => choice('-o, --output <FORMAT>', 'output format', formats).default('table');
