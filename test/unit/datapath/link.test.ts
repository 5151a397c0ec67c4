// SPDX-License-Identifier: Apache-2.0
// The programs are also compiled for devices without a link-layer header, where an offset that counts the Ethernet header is wrong. Reads
// the source only.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const datapath = join(import.meta.dirname, '../../../datapath');

test('only link.h knows the length of the Ethernet header', () => {
  const files = globSync(['*.c', 'lib/*.h'], { cwd: datapath });
  const uses = (file: string): boolean => /\bETH_HLEN\b|sizeof\(struct ethhdr\)/.test(readFileSync(join(datapath, file), 'utf8'));
  expect(files.filter(uses)).toEqual(['lib/link.h']);
});
