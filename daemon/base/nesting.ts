// SPDX-License-Identifier: Apache-2.0
// Limits the nesting of YAML and JSON before a parser is called. The time and the stack that parsers need grow with the depth. Pure.

import { ReasonError } from './errors.ts';

/** Maximum number of levels of nesting. The objects that the agent reads have 10, schemas of custom resources about 50. */
export const MAX_DEPTH = 200;
/**
 * Maximum number of levels of nesting of a JSON file. JSON.parse needs no stack, so a deeply nested object in a list affects only itself.
 */
export const MAX_JSON_FILE_DEPTH = 4000;

/** The line, counted from 0, at which a text is nested too deeply, and why it is refused. */
export interface NestingFault {
  readonly line: number;
  readonly reason: string;
}

/**
 * The fault of a YAML text that may be nested more than MAX_DEPTH levels deep: the depth is at most the number of open brackets, or
 * the column at which the content of a line begins. Text in quotes is counted too, because only the parser knows the quotes. JSON
 * is YAML.
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
