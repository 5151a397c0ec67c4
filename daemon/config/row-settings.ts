// SPDX-License-Identifier: Apache-2.0
// The settings that decide what a daemon serves: the flags of `sluice plan` and `sluice explain --objects`, and the settings that the
// status reports, so that a plan uses the settings of the running daemon. It imports only a type of schema.ts, so that importing this file
// is cheap. Pure.
import type { Config, Key } from './schema.ts';
import { kebab } from './sources.ts';

export const rowKeys = [
  'clusterCidr',
  'detectLocalMode',
  'externalIps',
  'masqueradeAll',
  'nodePortAddresses',
  'podInterfaces',
  'serviceCidr',
  'uplinks',
] as const satisfies readonly Key[];

/** Names and values as flags accept them. */
export const rowSettings = (config: Config): { name: string; value: string }[] =>
  rowKeys.map((key) => ({ name: kebab(key), value: valueText(config[key]) }));

function valueText(value: boolean | string | readonly string[]): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return typeof value === 'string' ? value : value.join(',');
}
