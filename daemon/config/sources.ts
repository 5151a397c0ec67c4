// SPDX-License-Identifier: Apache-2.0
// The sources of settings: flags, environment variables, and a YAML or JSON file. Each given setting becomes a name, a text and
// an origin; values.ts parses the text. An unknown name is rejected with the nearest known name. Called by resolve.ts; help.ts
// and cli/ use the definitions of the flags.
import { Command, CommanderError, Option } from 'commander';
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';

import { readBoundedText } from '../base/bounded-read.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import { didYouMean as nearest } from '../base/nearest.ts';
import { yamlNestingFault } from '../base/nesting.ts';
import { systemReason, yamlReason } from '../base/reasons.ts';
import { usageText } from './usage.ts';

/** Maximum size of a settings file in bytes. A file with every setting and its comments has 10 KiB. */
const MAX_SETTINGS_BYTES = 256 * 2 ** 10;

/** The file reader of sluiced and sluice, for readSettingsFile(). */
export const readSettingsText = (path: string): string => readBoundedText(path, { maxBytes: MAX_SETTINGS_BYTES });

export interface GivenText {
  /** "pod-interfaces". */
  readonly name: string;
  readonly text: string;
  /** "flag --node". */
  readonly origin: string;
  /** The setting as the user wrote it; error messages begin with this text: "--max-slots 17", "SLUICE_MAX_SLOTS=17". */
  readonly shown: string;
  readonly isFlag: boolean;
}

interface GivenFlags {
  readonly action: 'run' | 'check' | 'help' | 'version';
  readonly configFile: string | undefined;
  readonly given: readonly GivenText[];
}

/** Names and help of a setting. */
export interface NamedSetting {
  /** Name of the setting, such as "pod-interfaces": the key in the settings file, and the flag without its "--". */
  readonly name: string;
  /** "SLUICE_POD_INTERFACES". */
  readonly environment: string;
  /** Placeholder in the help: "DIR". */
  readonly argument: string;
  readonly help: string;
  readonly defaultText: string | undefined;
  readonly defaultName?: string;
  /** True when the flag may be repeated. */
  readonly isList?: boolean;
  /** True when the value is a path, which may be relative (paths.ts). */
  readonly isPath?: boolean;
  /** Value of a flag that is given without a value; undefined when the flag requires a value. */
  readonly preset?: string;
}

/** Converts the name of a setting to that of its flag: "podInterfaces" -> "pod-interfaces". */
export const kebab = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** The command line of sluiced, for parsing and for --help. */
export function daemonCommand(settings: readonly NamedSetting[]): Command {
  const command = new Command('sluiced').usage('[flags]').helpOption(false).exitOverride();
  command.configureOutput({ writeOut: () => undefined, writeErr: () => undefined, outputError: () => undefined });
  command.description('Sluice node agent: watches Services, load balances their traffic in the kernel, and serves an API.');
  for (const each of settings) command.addOption(optionOf(each, describe(each)));
  command.option('--config <FILE>', 'YAML or JSON file of settings; its keys are flag names without "--" (SLUICE_CONFIG)');
  command.option('--check-config', 'validate the settings, print each with its origin, and exit');
  command.option('--version', 'print the versions of sluiced, libbpf and the kernel, and exit');
  return command.option('-h, --help', 'print this help, and exit');
}

/** A setting as a flag of any command. */
export function optionOf({ name, argument, isList, preset }: NamedSetting, description: string): Option {
  const option = new Option(`--${name} ${preset === undefined ? `<${argument}>` : `[${argument}]`}`, description).preset(preset);
  if (isList === true) option.argParser((text, before?: string) => (before === undefined ? text : `${before},${text}`));
  return option;
}

function describe({ help, environment, defaultText, defaultName = defaultText ?? '' }: NamedSetting): string {
  return `${help} (${environment}${defaultName === '' ? '' : `, default ${defaultName}`})`;
}

/** Reads flags. Throws ExitError for unknown flags and for arguments that are not flags. */
export function readFlags(argv: readonly string[], settings: readonly NamedSetting[]): GivenFlags {
  const command = daemonCommand(settings);
  try {
    command.parse([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.excessArguments')
      throw new ExitError(ExitCode.usage, `"${command.args.join(' ')}" is not a flag; sluiced --help lists the flags`);
    throw new ExitError(ExitCode.usage, usageText(error, 'sluiced'), { cause: error });
  }
  const options = new Map(command.options.map((option) => [option.name(), command.getOptionValue(option.attributeName()) as unknown]));
  const given = settings.flatMap(({ name }): GivenText[] => {
    const text = options.get(name);
    return typeof text === 'string'
      ? [{ name, text, origin: `flag --${name}`, shown: `--${name} ${text === '' ? '""' : text}`, isFlag: true }]
      : [];
  });
  const configFile = options.get('config');
  const action = (['help', 'version'] as const).find((each) => options.get(each) === true);
  return {
    action: action ?? (options.get('check-config') === true ? 'check' : 'run'),
    configFile: typeof configFile === 'string' ? configFile : undefined,
    given,
  };
}

// Kubernetes sets variables for each Service of the namespace in every pod: for a Service named "sluice-x", SLUICE_X_PORT and
// others. They are not settings.
const serviceLink = /_(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;

/** SLUICE_* variables that are not settings: the path of the settings file, and the commit of the image (host/version.ts). */
const notSettings = new Set(['SLUICE_CONFIG', 'SLUICE_COMMIT']);

/** Reads SLUICE_* variables; an empty variable counts as not set. Throws ExitError for an unknown variable. */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>, settings: readonly NamedSetting[]): GivenText[] {
  const given: GivenText[] = [];
  for (const [variable, text] of Object.entries(env)) {
    if (!variable.startsWith('SLUICE_') || notSettings.has(variable) || text === undefined || text === '') continue;
    const known = settings.find(({ environment }) => environment === variable);
    if (known === undefined) {
      if (serviceLink.test(variable)) continue;
      const names = settings.map(({ environment }) => environment);
      throw new ExitError(ExitCode.config, `the environment variable ${variable} is not a setting${didYouMean(variable, names)}`);
    }
    given.push({ name: known.name, text, origin: `environment ${variable}`, shown: `${variable}=${text}`, isFlag: false });
  }
  return given;
}

/** Reads a settings file: one mapping from names to values; a list may be a sequence. Throws ExitError with file and line. */
export function readSettingsFile(
  path: string,
  { settings, readFile }: { readonly settings: readonly NamedSetting[]; readonly readFile: (path: string) => string },
): GivenText[] {
  const lines = new LineCounter();
  const content = readOr(path, readFile);
  const deep = yamlNestingFault(content);
  if (deep !== undefined) return reject(`${path} line ${deep.line + 1}: ${deep.reason}`);
  const document = parseDocument(content, { lineCounter: lines, prettyErrors: false });
  const [broken] = document.errors;
  if (broken !== undefined) return reject(`${path} line ${lines.linePos(broken.pos[0]).line}: ${yamlReason(broken)}`, broken);
  if (document.contents === null) return [];
  if (!isMap<Node, Node | null>(document.contents)) return reject(`${path} must contain one mapping from setting names to values`);
  return document.contents.items.flatMap(({ key, value }): GivenText[] => {
    const origin = `${path} line ${lines.linePos(key.range[0]).line}`;
    const name = textOf(key) ?? '(not a string)';
    const known = settings.find((each) => each.name === name);
    if (known === undefined) {
      const names = settings.map((each) => each.name);
      return reject(`${origin}: "${name}" is not a setting${didYouMean(kebab(name).replaceAll('_', '-'), names)}`);
    }
    const text = textOf(value);
    if (text === undefined) return reject(`${origin}: "${name}" must be ${known.isList === true ? 'a list of values' : 'a single value'}`);
    return text === null ? [] : [{ name, text, origin, shown: `${origin}: "${name}: ${text}"`, isFlag: false }];
  });
}

/**
 * The value as the text that a flag would have; null for an empty value, undefined for anything except a scalar or a list of
 * scalars.
 */
function textOf(value: Node | null): string | null | undefined {
  if (value === null) return null;
  if (isSeq<Node>(value)) {
    const parts = value.items.map(textOf);
    return parts.every((part) => typeof part === 'string') ? parts.join(',') : undefined;
  }
  if (!isScalar<string | number | boolean | null>(value)) return undefined;
  if (value.value === null) return null;
  if (typeof value.value === 'boolean') return value.value ? 'on' : 'off';
  // The source text is used, because a Node named 007 must not become 7.
  return typeof value.value === 'number' ? (value.source ?? String(value.value)) : value.value;
}

function reject(message: string, cause?: unknown): never {
  throw new ExitError(ExitCode.config, message, cause === undefined ? undefined : { cause });
}

function readOr(path: string, readFile: (path: string) => string): string {
  try {
    return readFile(path);
  } catch (error) {
    throw new ExitError(ExitCode.config, `cannot read the --config file ${path}: ${systemReason(error)}`, {
      cause: error,
    });
  }
}

/** " (did you mean X?)" for the nearest name; a pointer to --help when no name is near. */
const didYouMean = (word: string, names: readonly string[]): string => nearest(word, names) || '; sluiced --help lists the settings';
