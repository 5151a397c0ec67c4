// SPDX-License-Identifier: Apache-2.0
// Makes relative paths absolute. A path that the user writes as a flag, as an argument or in an environment variable is relative to the
// current directory of the user. A path in a settings file is relative to the directory of this file. Used by resolve.ts and cli/.
import { isAbsolute, resolve } from 'node:path';
import { ExitCode, ExitError } from '../base/errors.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** The scripts of package.json that start our programs. npm runs them in the directory of package.json. */
const ourScripts = ['sluice', 'sluiced'];

/**
 * The current directory of the user. npm passes it as INIT_CWD. The variable is used only if one of our scripts was started with npm. If
 * another npm script starts our program, that script may have changed the directory, so INIT_CWD is ignored.
 */
export function userDirectory(env: Environment): string {
  const isOurScript = env['npm_package_name'] === 'sluice' && ourScripts.includes(env['npm_lifecycle_event'] ?? '');
  const initial = isOurScript ? env['INIT_CWD'] : undefined;
  if (initial !== undefined && isAbsolute(initial)) return initial;
  try {
    return process.cwd();
  } catch (cause) {
    throw new ExitError(ExitCode.config, 'the current directory does not exist any more: change to another directory', { cause });
  }
}

/** A path that the user wrote, as an absolute path. Absolute paths and the empty path are returned unchanged. */
export const userPath = (path: string, env: Environment): string => absolutePath(path, () => userDirectory(env));

/** Makes a path absolute: a relative path is relative to the directory. The directory is determined only if it is needed. */
export const absolutePath = (path: string, directory: () => string): string =>
  path === '' || isAbsolute(path) ? path : resolve(directory(), path);
