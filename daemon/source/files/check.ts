// SPDX-License-Identifier: Apache-2.0
// Checks whether a directory can be a source. `sluice preflight` and the start of sluiced run this check. It does not read the content of
// the directory.
import { accessSync, constants, opendirSync } from 'node:fs';
import type { Check } from '../../base/check.ts';
import { ExitCode, ExitError } from '../../base/errors.ts';

export const sourceCheck = (directory: string): Check => ({ name: 'source', run: () => readable(directory) });

function readable(directory: string): string {
  try {
    accessSync(directory, constants.R_OK | constants.X_OK);
    // For root, access() may also succeed for a path that is not a directory, so the directory is also opened.
    opendirSync(directory).closeSync();
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? '';
    throw new ExitError(ExitCode.config, `--source ${directory} cannot be read (${code}): name a directory`, { cause });
  }
  return `${directory} can be read`;
}
