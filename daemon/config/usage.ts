// SPDX-License-Identifier: Apache-2.0
// The error message for a command line that cannot be parsed, made from the kind of the parser's error and the words that the user
// wrote. It must never pass the parser's own sentence to the user. Pure. Called by sources.ts and by cli/run.ts.
import type { CommanderError } from 'commander';

/** `command`: the command that was parsed, such as "sluice status"; its --help lists what it accepts. */
export function usageText({ code, message }: Pick<CommanderError, 'code' | 'message'>, command: string): string {
  const help = `${command} --help`;
  const near = /Did you mean (?:one of )?([^?]*)\?/.exec(message)?.[1];
  const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
  const word = /'([^']+)'/.exec(message)?.[1];
  if (word === undefined) return excessText(code, message, command) ?? `the arguments are not valid; ${help} lists them`;
  // "-o, --output <FORMAT>" -> "--output FORMAT".
  const flag = word.replace(/^-\w, /, '').replaceAll(/[<>[\]]/g, '');
  switch (code) {
    case 'commander.unknownOption':
      return `${word} is not a flag${hint}; ${help} lists the flags`;
    case 'commander.unknownCommand':
      return `"${word}" is not a command${hint}; ${help} lists the commands`;
    case 'commander.optionMissingArgument':
      return `${flag.split(' ')[0]} requires a value: ${flag}; ${help} lists the flags`;
    case 'commander.missingMandatoryOptionValue':
      return `${flag} is required; ${help} lists the flags`;
    case 'commander.excessArguments':
      return excessText(code, message, command) ?? `too many arguments; ${help} lists them`;
    default:
      return `the arguments are not valid; ${help} lists them`;
  }
}

function excessText(code: string, message: string, command: string): string | undefined {
  const words = code === 'commander.excessArguments' ? /but got \d+: (.*)\.$/s.exec(message)?.[1] : undefined;
  return words === undefined ? undefined : `"${words}" is not expected; ${command} --help lists the arguments`;
}
