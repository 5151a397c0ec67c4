// SPDX-License-Identifier: Apache-2.0
// Puts into a directory what an image of Sluice holds beside Debian and libbpf1: the daemon and the command as they stand
// here after `npm run build`, the packages they import, the Node.js that runs this. Used by Dockerfile and by
// test/netns/image.test.ts, so that what is tested is what is shipped.
import { chmodSync, cpSync, existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const root = join(import.meta.dirname, '..');

interface Locked {
  readonly dev?: boolean;
  readonly optional?: boolean;
}

/** Folders of the packages that run, as package-lock.json has them. Node.js comes as a binary of its own. */
function packages(): string[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Readonly<Record<string, Locked>> };
  return Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true && !basename(path).startsWith('node-linux-'))
    .filter(([path, { optional }]) => optional !== true || existsSync(join(root, path)))
    .map(([path]) => path);
}

/** Fails when the build has not been run. */
function sources(): string[] {
  const objects = globSync('datapath/gen/*.bpf.o', { cwd: root });
  if (objects.length === 0) throw new Error('datapath/gen is empty: npm run build');
  return ['LICENSE', 'package.json', 'daemon', 'datapath/LICENSE', ...objects, 'proto/load.ts', 'proto/sluice'];
}

function writeCommand(path: string, command: string): void {
  // Also for who comes by nsenter, with the host's PATH.
  writeFileSync(path, `#!/bin/sh\nPATH=/usr/local/bin:$PATH exec ${command} "$@"\n`);
  chmodSync(path, 0o755);
}

const target = process.argv[2];
if (target === undefined) throw new Error('which directory? node deploy/assemble.ts DIR');
const bin = join(target, 'usr/local/bin');
mkdirSync(bin, { recursive: true });
for (const path of [...sources(), ...packages()]) cpSync(join(root, path), join(target, 'opt/sluice', path), { recursive: true });
cpSync(process.execPath, join(bin, 'node'), { dereference: true });
writeCommand(join(bin, 'sluiced'), 'sh /opt/sluice/daemon/sluiced.sh');
writeCommand(join(bin, 'sluice'), 'node /opt/sluice/daemon/cli/main.ts');
