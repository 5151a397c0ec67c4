// SPDX-License-Identifier: Apache-2.0
// Limits a YAML text before the parser is called. The memory that the parser needs depends on the number of values, comments and errors, and
// not on the length of the text: up to 1.5 KiB for each of them. Each begins or ends with an indicator character or a line break, so these
// are counted. Pure. Called by values.ts.
import { sizeText } from '../../base/bounded-read.ts';
import { type NestingFault, yamlNestingFault } from '../../base/nesting.ts';
import { MAX_YAML_BYTES, MAX_YAML_MARKS, MAX_YAML_MERGED_KEYS } from './limits.ts';

/** The indicator characters of YAML 1.2 that count wherever they are, line breaks, and the escape character of double quotes. */
const always = '\n\\,[]{}#&*!|>\'"%@`:';
/** The indicator characters that count only at the end of a word, since names contain them. */
const atEnd = '-?';
const after = ' \t\r\n,[]{}';

const LINE_FEED = 0x0a;
const COLON = 0x3a;

const [ALWAYS, AT_END, AFTER] = [1, 2, 4];
/** The classes of each ASCII character, as bits. */
const classes = Uint8Array.from({ length: 128 }, (_, code) => {
  const character = String.fromCharCode(code);
  return (always.includes(character) ? ALWAYS : 0) | (atEnd.includes(character) ? AT_END : 0) | (after.includes(character) ? AFTER : 0);
});

const classOf = (text: string, at: number): number => classes[text.charCodeAt(at)] ?? 0;

const advice = 'separate the objects by "---" lines, or use JSON';

/** Why the YAML parser must not be called for the text; undefined if it may be called. */
export function yamlRefusal(text: string): NestingFault | undefined {
  if (text.length > MAX_YAML_BYTES) return { line: 0, reason: `a YAML document may have at most ${sizeText(MAX_YAML_BYTES)}: ${advice}` };
  return yamlNestingFault(text) ?? marksFault(text);
}

/** Whether the text has more than `most` line breaks and indicator characters. */
export const hasMoreMarks = (text: string, most: number): boolean => countMarks(text, most).marks > most;

function marksFault(text: string): NestingFault | undefined {
  const { marks, lines, colons } = countMarks(text, MAX_YAML_MARKS);
  if (marks > MAX_YAML_MARKS)
    return { line: lines, reason: `a YAML document may have at most ${MAX_YAML_MARKS} line breaks and indicator characters: ${advice}` };
  if (mergesIn(text) * colons <= MAX_YAML_MERGED_KEYS) return undefined;
  return { line: 0, reason: `the merge keys ("<<") of a YAML document may add at most ${MAX_YAML_MERGED_KEYS} keys: ${advice}` };
}

/** Counts until there are more than `most` marks. */
function countMarks(text: string, most: number): { readonly marks: number; readonly lines: number; readonly colons: number } {
  let [marks, lines, colons] = [0, 0, 0];
  for (let at = 0; at < text.length && marks <= most; at += 1) {
    const found = classOf(text, at);
    if (found === 0 || found === AFTER) continue;
    const code = text.charCodeAt(at);
    if (code === LINE_FEED) lines += 1;
    else if (code === COLON) colons += 1;
    if ((found & ALWAYS) !== 0 || at + 1 === text.length || (classOf(text, at + 1) & AFTER) !== 0) marks += 1;
  }
  return { marks, lines, colons };
}

function mergesIn(text: string): number {
  let merges = 0;
  for (let at = text.indexOf('<<'); at !== -1; at = text.indexOf('<<', at + 2)) merges += 1;
  return merges;
}
