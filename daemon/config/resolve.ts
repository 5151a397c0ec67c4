// SPDX-License-Identifier: Apache-2.0
// Resolves the settings: a default is overridden by the settings file, the file by the environment, the environment by a flag.
// Unknown and invalid settings are rejected before anything else happens. argv, the environment and the file reader are
// arguments; nothing else is read. Called by command-line.ts and by the commands of cli/ that take the daemon's settings.
import { dirname } from 'node:path';
import { ExitCode, ExitError } from '../base/errors.ts';
import { absolutePath, userDirectory, userPath } from './paths.ts';
import { allSettings, type Config, schema, type Setting } from './schema.ts';
import { type GivenText, kebab, readEnvironment, readFlags, readSettingsFile } from './sources.ts';

export interface ResolvedSetting {
  readonly setting: Setting;
  /** Undefined when the setting is not set and has no default. */
  readonly text: string | undefined;
  /** Where the value comes from: "default", "flag --node", "environment SLUICE_NODE", "/etc/sluice.yaml line 3". */
  readonly origin: string;
}

/** The action that the command line requests; "check" is --check-config. */
export type Invocation =
  | { readonly action: 'help' | 'version' }
  | { readonly action: 'run'; readonly config: Config }
  | { readonly action: 'check'; readonly config: Config; readonly resolved: readonly ResolvedSetting[] };

type Environment = Readonly<Record<string, string | undefined>>;
type ReadFile = (path: string) => string;

/** Reads the command line and all other sources. `argv` excludes the interpreter and the script. Throws ExitError. */
export function parseInvocation(argv: readonly string[], env: Environment, readFile: ReadFile): Invocation {
  const settings = allSettings();
  const flags = readFlags(argv, settings);
  if (flags.action === 'help' || flags.action === 'version') return { action: flags.action };
  const named = flags.configFile ?? (env['SLUICE_CONFIG'] || undefined);
  const file = named === undefined ? '' : userPath(named, env);
  const inFile = named === undefined ? [] : readSettingsFile(file, { settings, readFile });
  const byUser = [...readEnvironment(env, settings), ...flags.given];
  const pathNames = new Set(settings.flatMap(({ name, isPath }) => (isPath === true ? [name] : [])));
  const located = (each: GivenText, directory: () => string): [string, GivenText] => [
    each.name,
    pathNames.has(each.name) ? { ...each, text: absolutePath(each.text.trim(), directory) } : each,
  ];
  const given = new Map([
    ...inFile.map((each) => located(each, () => dirname(file))),
    ...byUser.map((each) => located(each, () => userDirectory(env))),
  ]);
  const config = check(settings, given);
  return flags.action === 'run'
    ? { action: 'run', config }
    : { action: 'check', config, resolved: settings.map((each) => resolve(each, given)) };
}

/** The settings that sluiced would use with these arguments. Throws ExitError. */
export function parseConfig(argv: readonly string[], env: Environment, readFile: ReadFile): Config {
  const invocation = parseInvocation(argv, env, readFile);
  if (!('config' in invocation))
    throw new ExitError(ExitCode.usage, `--${invocation.action} cannot be used here: only settings are accepted`);
  return invocation.config;
}

function resolve(one: Setting, given: ReadonlyMap<string, GivenText>): ResolvedSetting {
  const from = given.get(one.name);
  return { setting: one, text: from?.text ?? one.defaultText, origin: from?.origin ?? 'default' };
}

function check(settings: readonly Setting[], given: ReadonlyMap<string, GivenText>): Config {
  const texts = Object.fromEntries(settings.map((each) => [each.key, resolve(each, given).text]));
  const result = schema.safeParse(texts);
  if (result.success) return result.data;
  const messages = result.error.issues.map((issue) => {
    const one = settings.find((each) => each.key === issue.path[0]);
    return one === undefined ? issue.message : messageFor(one, given.get(one.name), issue.message);
  });
  const isUsage = result.error.issues.some((issue) => {
    const from = given.get(kebab(String(issue.path[0])));
    return from === undefined || from.isFlag;
  });
  throw new ExitError(isUsage ? ExitCode.usage : ExitCode.config, [...new Set(messages)].join('; '));
}

function messageFor(one: Setting, from: GivenText | undefined, problem: string): string {
  if (from !== undefined) return `${from.shown} ${problem}`;
  if (one.defaultText !== undefined) return `the default of --${one.name}, "${one.defaultText}", ${problem}: set --${one.name}`;
  return `--${one.name} ${one.argument} is required (or ${one.environment}, or "${one.name}:" in the --config file)`;
}
