// SPDX-License-Identifier: Apache-2.0
// Copies the content of the image into a directory, except Debian and libbpf1: the daemon and the command after `npm run build`,
// the npm packages that they import, and the Node.js that runs this script. Dockerfile and test/netns/image.test.ts call it, so
// that the tests run the files of the image. It must never include a development dependency.
import { chmodSync, cpSync, existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const root = join(import.meta.dirname, '..');

interface Locked {
  readonly dev?: boolean;
  readonly optional?: boolean;
}

/** Folders of the production packages in package-lock.json, except those of Node.js, which is copied as a single binary. */
function packages(): string[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Readonly<Record<string, Locked>> };
  return Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true && !basename(path).startsWith('node-linux-'))
    .filter(([path, { optional }]) => optional !== true || existsSync(join(root, path)))
    .map(([path]) => path);
}

/** Files of Sluice. Throws when the build has not run. */
function sources(): string[] {
  const objects = globSync('datapath/gen/*.bpf.o', { cwd: root });
  if (objects.length === 0) throw new Error('datapath/gen contains no object: run `npm run build`');
  return [
    'LICENSE',
    'package.json',
    'daemon',
    'datapath/LICENSE',
    ...objects,
    'proto/load.ts',
    'proto/sluice',
    'proto/gen/descriptors.binpb',
  ];
}

function writeCommand(path: string, command: string): void {
  // nsenter keeps the PATH of the host, which may not contain /usr/local/bin.
  writeFileSync(path, `#!/bin/sh\nPATH=/usr/local/bin:$PATH exec ${command} "$@"\n`);
  chmodSync(path, 0o755);
}

const target = process.argv[2];
if (target === undefined) throw new Error('usage: node deploy/assemble.ts DIR');
const bin = join(target, 'usr/local/bin');
mkdirSync(bin, { recursive: true });
for (const path of [...sources(), ...packages()]) cpSync(join(root, path), join(target, 'opt/sluice', path), { recursive: true });
cpSync(process.execPath, join(bin, 'node'), { dereference: true });
writeCommand(join(bin, 'sluiced'), 'sh /opt/sluice/daemon/sluiced.sh');
writeCommand(join(bin, 'sluice'), 'node /opt/sluice/daemon/cli/main.ts');
