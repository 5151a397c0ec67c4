// SPDX-License-Identifier: Apache-2.0
// States in the words of Sluice why something failed: failed system calls, text that is not YAML or JSON, and defects of this program.
// Messages use these functions instead of the message of a library, which is written for programmers and may change with its version. It
// must never return the message of a library. Pure. Every folder of daemon/ may import this file.
import { getSystemErrorMessage } from 'node:util';
import { ExitCode, ExitError, InvalidObjectError, KernelError, ReasonError } from './errors.ts';

/** Why a system call failed: "no such file or directory". Does not repeat the name of the call and its path. */
export function systemReason(error: unknown): string {
  if (isOurs(error)) return error.message;
  const { errno, code } = (error ?? {}) as NodeJS.ErrnoException;
  if (typeof errno === 'number' && errno < 0) return getSystemErrorMessage(errno);
  return code === undefined ? unexpectedReason(error) : `error ${code}`;
}

const ours = [ExitError, KernelError, InvalidObjectError, ReasonError];

/** Whether the message of the error is written in daemon/, and not by a library. */
const isOurs = (error: unknown): error is Error => ours.some((type) => error instanceof type);

/** The message of an error that ends a command or the start of the daemon. */
export function failureText(error: unknown): string {
  if (isOurs(error)) return error.message;
  const { syscall, path } = (error ?? {}) as NodeJS.ErrnoException;
  if (syscall === undefined) return unexpectedReason(error);
  return `${syscall}${path === undefined ? '' : ` ${path}`}: ${systemReason(error)}`;
}

/** This process, or the whole host, has too many open files. */
const lacksDescriptors = (e: unknown): boolean => ['EMFILE', 'ENFILE'].includes((e as { code?: string } | null)?.code ?? '');

/** A failed system call of Node.js itself, such as readFileSync(). */
const isSystemError = (e: unknown): e is Error => e instanceof Error && 'errno' in e && 'syscall' in e;

/**
 * The message and the exit code with which a command or the start of the daemon ends because of this error. Undefined for an error
 * that shows a bug, for which the stack trace matters.
 */
export function exitOf(error: unknown): { readonly exitCode: number; readonly message: string } | undefined {
  if (error instanceof ExitError) return { exitCode: error.exitCode, message: error.message };
  if (!(error instanceof KernelError) && !isSystemError(error)) return undefined;
  const hint = lacksDescriptors(error) ? ': raise the limit of open files (ulimit -n, or LimitNOFILE= of the service manager)' : '';
  const exitCode = error instanceof KernelError ? ExitCode.kernel : ExitCode.failure;
  return { exitCode, message: `${failureText(error)}${hint}` };
}

/** The type of an unexpected error and the place in our sources. Its message is left out, because a library may have written it. */
function unexpectedReason(error: unknown): string {
  const name = error instanceof Error ? error.name : typeof error;
  const place = error instanceof Error ? /daemon\/[\w./-]+\.ts:\d+/.exec(error.stack ?? '')?.[0] : undefined;
  return `unexpected error (${name}${place === undefined ? '' : ` at ${place}`}): this is a defect of Sluice, please report it`;
}

/** Reasons by the error codes of the parser "yaml". */
const yamlReasons: Readonly<Record<string, string>> = {
  ALIAS_PROPS: 'an alias has a tag or an anchor',
  BAD_ALIAS: 'the name of an alias is not valid',
  BAD_COLLECTION_TYPE: 'a tag does not match its mapping or list',
  BAD_DIRECTIVE: 'a line that begins with "%" is not valid',
  BAD_DQ_ESCAPE: 'an escape sequence in double quotes is not valid',
  BAD_INDENT: 'the indentation is not consistent',
  BAD_PROP_ORDER: 'a tag or an anchor is in the wrong place',
  BAD_SCALAR_START: 'a value begins with a reserved character: put the value in quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a mapping begins in the line of another key',
  BLOCK_IN_FLOW: 'an indented block is inside brackets or braces',
  DUPLICATE_KEY: 'a mapping contains the same key twice',
  KEY_OVER_1024_CHARS: 'a key is longer than 1024 characters',
  MISSING_CHAR: 'a closing quote, bracket or brace, a colon, a comma or a space is missing',
  MULTILINE_IMPLICIT_KEY: 'a key spans several lines, or a colon is missing after it',
  MULTIPLE_ANCHORS: 'a value has two anchors',
  MULTIPLE_DOCS: 'the text contains more than one document',
  MULTIPLE_TAGS: 'a value has two tags',
  NON_STRING_KEY: 'a key is not a string',
  RESOURCE_EXHAUSTION: 'the brackets are nested too deep',
  TAB_AS_INDENT: 'a tab is used for indentation: use spaces',
  TAG_RESOLVE_FAILED: 'a tag is unknown or does not match its value',
  UNEXPECTED_TOKEN: 'a character is in the wrong place',
};

/** Why a text is not YAML, from an error of the parser, or of the conversion of its result to values. */
export function yamlReason(error: unknown): string {
  const reason = yamlReasons[(error as { code?: string } | undefined)?.code ?? ''];
  if (reason !== undefined) return reason;
  if (error instanceof RangeError) return 'the text is nested too deep';
  return error instanceof ReferenceError ? 'an alias has no anchor, or the aliases expand to too many values' : 'the syntax is wrong';
}

/** Why a text is not JSON, from an error of JSON.parse. */
export function jsonReason(text: string, error: unknown): string {
  const position = Number(/position (\d+)/.exec(error instanceof Error ? error.message : '')?.[1] ?? text.length);
  const found = String.fromCodePoint(text.codePointAt(position) ?? 0);
  return position >= text.length ? 'the text ends too early' : `${JSON.stringify(found)} is in the wrong place`;
}
