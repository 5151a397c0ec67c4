// SPDX-License-Identifier: Apache-2.0
// Limits the nesting of YAML and JSON before a parser is called. The time and the stack that parsers need grow with the depth. Pure.

import { ReasonError } from './errors.ts';

/** Maximum number of levels of nesting. The objects that the agent reads have 10 levels, and schemas of custom resources have about 50. */
export const MAX_DEPTH = 200;
/**
 * Maximum number of levels of nesting of a JSON file. JSON.parse does not use the call stack, so this limit can be higher than MAX_DEPTH. A
 * deeply nested object in a list then does not affect the other objects.
 */
export const MAX_JSON_FILE_DEPTH = 4000;

/** The line, counted from 0, at which a text is nested too deeply, and why it is refused. */
export interface NestingFault {
  readonly line: number;
  readonly reason: string;
}

/**
 * Returns the fault of a YAML text that may be nested more than MAX_DEPTH levels deep, otherwise undefined. The estimate uses the number of
 * open brackets and the column at which the content of a line begins. Brackets within quotes also count, because only a parser can
 * recognise quotes. Every JSON text is also a YAML text.
 */
export function yamlNestingFault(text: string): NestingFault | undefined {
  let line = 0;
  let [brackets, column] = [0, 0];
  let isIndented = true;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at] ?? '';
    if (character === '\n') {
      line += 1;
      column = 0;
      isIndented = true;
      continue;
    }
    isIndented &&= isBlank(character) || ('-?:'.includes(character) && isBlank(text[at + 1]));
    if (isIndented) column += 1;
    if (character === '[' || character === '{') brackets += 1;
    else if ((character === ']' || character === '}') && brackets > 0) brackets -= 1;
    if (brackets > MAX_DEPTH || column > 2 * MAX_DEPTH) return { line, reason: `is nested more than ${MAX_DEPTH} levels deep` };
  }
  return undefined;
}

/** Throws an error for a YAML text that may be nested too deeply. */
export function checkNesting(text: string): void {
  const fault = yamlNestingFault(text);
  if (fault !== undefined) throw new ReasonError(`line ${fault.line + 1}: ${fault.reason}`);
}

const isBlank = (character: string | undefined): boolean => character === ' ' || character === '\t';
