// SPDX-License-Identifier: Apache-2.0
// The settings of sluiced that decide which frontends are served, as flags of `sluice plan` and `sluice explain`. Loads the
// schema of the settings only for these two commands, since that takes long. Called by run.ts and the two commands.
import type { Command } from 'commander';
import type { SettingFlag } from './context.ts';

/** The flags; none when the command line contains neither "plan" nor "explain". */
export async function settingFlags(argv: readonly string[]): Promise<SettingFlag[]> {
  if (!argv.includes('plan') && !argv.includes('explain')) return [];
  const [{ allSettings }, { optionOf }, { rowKeys }] = await Promise.all([
    import('../config/schema.ts'),
    import('../config/sources.ts'),
    import('../config/row-settings.ts'),
  ]);
  const keys: readonly string[] = rowKeys;
  const settings = allSettings().filter(({ key }) => keys.includes(key));
  return settings.map((setting) => ({ setting, option: optionOf(setting, 'setting of sluiced; see sluiced --help') }));
}

/**
 * `flags`: the given flags in the form that sluiced accepts. `extra`: arguments that commander wrongly took as the value of a flag
 * whose value is optional.
 */
export function givenSettings(command: Command, settings: readonly SettingFlag[]): { flags: string[]; extra: string[] } {
  const [flags, extra]: [string[], string[]] = [[], []];
  for (const { setting, option } of settings) {
    const { name, preset } = setting;
    const text = command.getOptionValue(option.attributeName()) as string | undefined;
    if (text === undefined) continue;
    const isExtra = preset !== undefined && text !== 'on' && text !== 'off';
    if (isExtra) extra.push(text);
    flags.push(`--${name}`, isExtra ? preset : text);
  }
  return { flags, extra };
}
