// SPDX-License-Identifier: Apache-2.0
// Files that are expensive to read or invalid, for the source directory of the abuse test. Each entry is a name and a function that
// returns the text, so that only one text is in memory at a time: some are large. abuse.ts uses them.
import { service } from '../support/lab/daemon.ts';

const MIB = 1 << 20;

/** A list of about 10 MB with one wrong value in its middle. */
function longListWithOneFault(): string {
  const items = Array.from({ length: 20_000 }, (_, n) => service(`long${n}`, { IPv4: `10.96.${n >> 8}.${n & 255}`, IPv6: 'fd00:96::10' }));
  const text = JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
  return text.replace('"name":"long10000"', '"name":nothing');
}

/** Services that all claim one VIP. */
function oneVip(): string {
  const items = Array.from({ length: 2000 }, (_, n) => service(`claim${n}`, { IPv4: '10.96.0.99', IPv6: 'fd00:96::99' }));
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}

/** A YAML document whose aliases expand to 10^9 items. */
function aliasBomb(): string {
  const levels = Array.from({ length: 9 }, (_, n) => `a${n + 1}: &a${n + 1} [${Array.from({ length: 10 }, () => `*a${n}`).join(', ')}]`);
  return ['a0: &a0 [x]', ...levels].join('\n');
}

export const hostileFiles: readonly (readonly [name: string, text: () => string])[] = [
  ['list.json', longListWithOneFault],
  ['nested.json', () => '['.repeat(400_000)],
  ['nested.yaml', () => '['.repeat(400_000)],
  ['long.yaml', () => 'a: b\n---\n'.repeat((30 * MIB) / 9)],
  ['bomb.yaml', aliasBomb],
  ['one-vip.json', oneVip],
  ['binary.yaml', () => '\u0000'.repeat(MIB)],
];
