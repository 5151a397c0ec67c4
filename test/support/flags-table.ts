// SPDX-License-Identifier: Apache-2.0
// The table of flags in daemon/README.md, generated from the schema of the settings. test/unit/config/help.test.ts compares the
// two; `node test/support/flags-table.ts` prints the table.
import { pathToFileURL } from 'node:url';
import { allSettings } from '../../daemon/config/schema.ts';

/** One row per flag, in the order of `sluiced --help`. */
export function flagsTable(): string {
  const rows = allSettings().map(({ name, argument, environment, defaultText, defaultName, help }) => {
    const value = defaultName ?? (defaultText === undefined || defaultText === '' ? '' : `\`${defaultText}\``);
    return `| \`--${name} ${argument.replaceAll('|', '\\|')}\` | \`${environment}\` | ${value} | ${help} |\n`;
  });
  return `| flag | environment | default | meaning |\n|---|---|---|---|\n${rows.join('')}`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.stdout.write(flagsTable());
