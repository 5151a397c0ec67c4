// SPDX-License-Identifier: Apache-2.0
// Files are read only up to a size limit. Larger files, and files that are not regular files, are refused without waiting.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { readBoundedText, readTextInSteps } from '../../../daemon/base/bounded-read.ts';
import { ExitError, messageOf } from '../../../daemon/base/errors.ts';
import { finish } from '../../../daemon/base/slices.ts';
import { sourceCheck } from '../../../daemon/source/files/check.ts';
import { readCredential } from '../../../daemon/source/kubernetes/credential-file.ts';
import { kubeconfigAccess } from '../../../daemon/source/kubernetes/kubeconfig.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { readSettingsText } from '../../../daemon/config/sources.ts';

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-read-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const failureOf = async (read: () => unknown): Promise<string> => {
  try {
    await read();
    return 'no failure';
  } catch (error) {
    return messageOf(error);
  }
};

const readers: { name: string; read: (path: string) => unknown }[] = [
  { name: 'a settings file', read: readSettingsText },
  { name: 'a credential', read: readCredential },
  { name: 'a kubeconfig', read: (path) => kubeconfigAccess({ path, env: {}, clock: new FakeClock() }) },
];

test.for(readers)('$name that is a pipe, a device, a directory, a loop of links or too large is refused at once', async ({ read }) => {
  const directory = temporaryDirectory();
  const at = (name: string): string => join(directory, name);
  execFileSync('mkfifo', [at('pipe')]);
  symlinkSync('loop', at('loop'));
  writeFileSync(at('large'), 'x'.repeat(2 ** 21));
  expect(await failureOf(() => read(at('pipe')))).toContain('the path is a named pipe, not a regular file');
  expect(await failureOf(() => read('/dev/zero'))).toContain('the path is a device, not a regular file');
  expect(await failureOf(() => read(directory))).toContain('the path is a directory, not a regular file');
  expect(await failureOf(() => read(at('loop')))).toMatch(/ELOOP|too many symbolic links/);
  expect(await failureOf(() => read(at('large')))).toContain('the file is larger than');
});

test('a file whose inode gives no size is read to its end', () => {
  expect(readBoundedText('/proc/self/status', { maxBytes: 65_536 })).toContain('VmRSS');
});

test('a file that grows without end is refused', async () => {
  const path = join(temporaryDirectory(), 'growing');
  writeFileSync(path, 'x');
  const child = spawn('sh', ['-c', `while :; do head -c 100000 /dev/zero >> ${path}; echo; done`], { stdio: ['ignore', 'pipe', 'ignore'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  let message = '';
  while (message === '') message = (await failureOf(() => readBoundedText(path, { maxBytes: 2 ** 22 }))).replace('no failure', '');
  expect(message).toBe('the file is larger than 4 MiB');
});

test('a command may read a pipe, up to the limit', () => {
  const path = join(temporaryDirectory(), 'pipe');
  execFileSync('mkfifo', [path]);
  const write = (text: string): void => void spawn('sh', ['-c', `printf %s ${text} > ${path}`]);
  write('hello');
  expect(readBoundedText(path, { maxBytes: 5, waitsForPipe: true })).toBe('hello');
  write('hello!');
  expect(() => readBoundedText(path, { maxBytes: 5, waitsForPipe: true })).toThrow('larger than');
});

test.for([
  { name: 'does not exist', make: () => join(temporaryDirectory(), 'missing') },
  { name: 'is a file', make: () => join(import.meta.dirname, 'bounded-read.test.ts') },
])('a start with a --source that $name ends with exit code 3', ({ make }) => {
  const path = make();
  let error: unknown;
  try {
    sourceCheck(path).run();
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(ExitError);
  expect(error).toMatchObject({ exitCode: 3, message: expect.stringContaining(`--source ${path} cannot be read`) as unknown });
});

test.for([
  { name: 'is shorter than a piece', repeat: 3 },
  { name: 'has many pieces, whose ends are inside of characters', repeat: 60_000 },
])('a text that $name is read in steps', ({ repeat }) => {
  const path = join(temporaryDirectory(), 'text');
  const text = `\u{1F600}x\u00E9\uFEFF\u20ACy`.repeat(repeat);
  writeFileSync(path, `\uFEFF${text}`);
  const steps = readTextInSteps(path, { maxBytes: 2 ** 24 });
  let count = 0;
  let step = steps.next(false);
  for (; step.done !== true; step = steps.next(false)) count += 1;
  expect(step.value === text).toBe(true);
  // A step handles at most 256 KiB.
  expect(count).toBeGreaterThanOrEqual(Buffer.byteLength(text) / 2 ** 18);
});

test.for([
  { name: 'the same', known: 'abc'.repeat(200_000) },
  { name: 'shorter', known: 'abc'.repeat(199_999) },
  { name: 'longer', known: 'abc'.repeat(200_001) },
  { name: 'different at its end', known: `${'abc'.repeat(199_999)}abd` },
  { name: 'different at its start', known: `x${'abc'.repeat(200_000)}` },
  { name: 'empty', known: '' },
])('a text is read correctly if the known text is $name', ({ known }) => {
  const path = join(temporaryDirectory(), 'text');
  writeFileSync(path, 'abc'.repeat(200_000));
  expect(finish(readTextInSteps(path, { maxBytes: 2 ** 24, known })) === 'abc'.repeat(200_000)).toBe(true);
});

test.for([
  { name: 'a byte that is not UTF-8', bytes: Buffer.concat([Buffer.alloc(300_000, 'x'), Buffer.from([0xff]), Buffer.alloc(300_000, 'x')]) },
  { name: 'an incomplete character at the end', bytes: Buffer.from('caf\u00E9').subarray(0, -1) },
  { name: 'a character without its first byte', bytes: Buffer.from([0x61, 0x80, 0x80, 0x80, 0x80]) },
])('a text with $name is refused', ({ bytes }) => {
  const path = join(temporaryDirectory(), 'text');
  writeFileSync(path, bytes);
  expect(() => finish(readTextInSteps(path, { maxBytes: 2 ** 24 }))).toThrow(
    expect.objectContaining({ code: 'ERR_ENCODING_INVALID_ENCODED_DATA' }),
  );
});

test('a file that is read in steps is closed when its reader gives up, and refused when it is too large', () => {
  const path = join(temporaryDirectory(), 'text');
  writeFileSync(path, 'x'.repeat(2 ** 20));
  const open = (): number => readdirSync('/proc/self/fd').length;
  const before = open();
  const steps = readTextInSteps(path, { maxBytes: 2 ** 20 });
  steps.next(false);
  expect(open()).toBe(before + 1);
  steps.return('');
  expect(open()).toBe(before);
  expect(() => finish(readTextInSteps(path, { maxBytes: 2 ** 20 - 1 }))).toThrow('the file is larger than');
});
