// SPDX-License-Identifier: Apache-2.0
// Log lines that cannot be written are dropped and counted, and must not delay or end the process. The first tests use a fake clock
// and a fake stderr that fails in every possible way. The last tests start a process whose real stderr is full, closed or never read.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createLog } from '../../../daemon/base/log.ts';
import { LogOutput } from '../../../daemon/base/log-output.ts';
import { FakeClock } from '../../support/fake-clock.ts';

/** How the next write ends: the number of bytes that are written, or the code of an error. */
type Result = number | string;

/** A LogOutput whose writes have the given `results`, in order. After these, a write succeeds; it does not end while isBlocked is true. */
class World {
  readonly clock = new FakeClock();
  readonly results: Result[] = [];
  text = '';
  isBlocked = false;
  readonly output = new LogOutput({
    clock: this.clock,
    write: (bytes, done) => {
      const result = this.results.shift() ?? bytes.length;
      if (this.isBlocked) return;
      if (typeof result === 'string') {
        done(Object.assign(new Error(`${result}: write`), { code: result }), 0);
        return;
      }
      this.text += bytes.toString('utf8', 0, result);
      done(null, result);
    },
  });
}

describe('a line', () => {
  test('a line is written at once', () => {
    const world = new World();
    world.output.write('one\n');
    expect(world.text).toBe('one\n');
    expect(world.output.status).toEqual({ droppedLines: 0, reason: undefined });
  });

  test('a line that is written in parts is complete', () => {
    const world = new World();
    world.results.push(2, 1);
    world.output.write('one\n');
    expect(world.text).toBe('one\n');
  });

  test.for(['EAGAIN', 'EBUSY', 'EINTR'])('a line waits while a write to stderr fails with %s', (code) => {
    const world = new World();
    world.results.push(code, 2, code);
    world.output.write('one\n');
    world.output.write('two\n');
    expect(world.text).toBe('');
    world.clock.advance(10_000);
    expect(world.text).toBe('one\ntwo\n');
    expect(world.output.status.droppedLines).toBe(0);
  });

  test.for(['ENOSPC', 'EPIPE', 'EIO', 'ENOMEM', 'EFBIG'])('a line is dropped and counted when a write to stderr fails with %s', (code) => {
    const world = new World();
    world.results.push(code);
    world.output.write('one\n');
    expect(world.output.status).toEqual({ droppedLines: 1, reason: `error ${code}` });
    world.output.write('two\n');
    world.clock.advance(10_000);
    expect(world.text).toBe('two\n');
  });

  test('a line of which only a part could be written is counted once, and the next line starts on a new line', () => {
    const world = new World();
    world.results.push('EAGAIN', 5, 9, 'ENOSPC');
    for (const line of ['zero\n', 'one\n', 'two\n', 'three\n']) world.output.write(line);
    world.clock.advance(100);
    // The first line was written alone, the others together.
    expect(world.text).toBe('zero\none\ntwo\nt');
    expect(world.output.status.droppedLines).toBe(1);
    world.output.write('four\n');
    world.clock.advance(10_000);
    expect(world.text).toBe('zero\none\ntwo\nt\nfour\n');
  });
});

test('the log reports the number of dropped lines when stderr works again', async () => {
  const world = new World();
  const log = await createLog({ logLevel: 'info', logFormat: 'json' }, world.output);
  world.output.reportDrops(log);
  world.results.push('ENOSPC', 'ENOSPC');
  log.info('lost');
  log.info('lost too');
  log.info('lost as well');
  world.clock.advance(1000);
  log.info('written');
  world.clock.advance(1000);
  const lines = world.text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { msg: string; lines?: number });
  expect(lines.map(({ msg, lines: count }) => [msg, count])).toEqual([
    ['written', undefined],
    ['log lines were dropped', 3],
  ]);
});

test.for(['json', 'text'] as const)('at most 1 MiB of lines is kept while stderr is not read, in the format %s', async (logFormat) => {
  const world = new World();
  const log = await createLog({ logLevel: 'info', logFormat }, world.output);
  world.isBlocked = true;
  const padding = 'x'.repeat(1000);
  for (let n = 0; n < 5000; n += 1) log.info({ padding }, 'line');
  // The first line is being written, and about 1000 lines wait.
  expect(world.output.status.droppedLines).toBeGreaterThan(3900);
  expect(world.output.status.droppedLines).toBeLessThan(4200);
  expect(world.output.status.reason).toBe('stderr is not read');
});

test('flush() gives up after half a second if stderr is not read', async () => {
  const world = new World();
  world.isBlocked = true;
  world.output.write('one\n');
  const flushed = world.output.flush();
  world.clock.advance(500);
  expect(await flushed).toBe(false);
});

describe('a process ends with its own exit code', () => {
  const folder = join(import.meta.dirname, '../../../daemon');
  /**
   * The code of the process. It logs 40,000 lines in 40 turns of the event loop, which is more than a pipe and the buffer of LogOutput
   * hold. Then it ends as main.ts does.
   */
  const program = (logFormat: string): string => `
    import { createLog } from ${JSON.stringify(join(folder, 'base/log.ts'))};
    import { LogOutput } from ${JSON.stringify(join(folder, 'base/log-output.ts'))};
    import { exitNow } from ${JSON.stringify(join(folder, 'kernel/host.ts'))};
    const output = new LogOutput();
    const log = await createLog({ logLevel: 'info', logFormat: '${logFormat}' }, output);
    for (let turn = 0; turn < 40; turn += 1) {
      for (let n = 0; n < 1000; n += 1) log.info({ n }, 'a line that is long enough to fill a pipe and a megabyte of memory behind it');
      await new Promise(setImmediate);
    }
    const isFlushed = await output.flush();
    const { droppedLines } = output.status;
    process.stdout.write(JSON.stringify({ isFlushed, droppedLines }));
    if (!isFlushed) exitNow(7);
    process.exit(7);`;

  const run = async (stderr: number | 'pipe' | 'closed', logFormat = 'json'): Promise<{ code: number | null; droppedLines: number }> => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program(logFormat)], {
      stdio: ['ignore', 'pipe', stderr === 'closed' ? 'pipe' : stderr],
    });
    if (stderr === 'closed') child.stderr?.destroy();
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const [code] = (await once(child, 'close', { signal: AbortSignal.timeout(60_000) }).catch(async () => {
      child.kill('SIGKILL');
      return once(child, 'close');
    })) as [number | null];
    const { droppedLines } = JSON.parse(text) as { droppedLines: number };
    return { code, droppedLines };
  };

  test.for([
    { stderr: 'pipe', is: 'a pipe that is never read' },
    { stderr: 'closed', is: 'a pipe whose reader has gone' },
  ] as const)('a process ends with its own exit code when stderr is $is', async ({ stderr }) => {
    const { code, droppedLines } = await run(stderr);
    expect(code).toBe(7);
    expect(droppedLines).toBeGreaterThan(20_000);
  });

  test('a process ends with its own exit code when stderr is a pipe that is never read, in the text format', async () => {
    const { code, droppedLines } = await run('pipe', 'text');
    expect(code).toBe(7);
    expect(droppedLines).toBeGreaterThan(20_000);
  });

  test('a process ends with its own exit code when the disk of stderr is full', async () => {
    const full = openSync('/dev/full', 'w');
    const { code, droppedLines } = await run(full);
    closeSync(full);
    expect(code).toBe(7);
    expect(droppedLines).toBeGreaterThan(20_000);
  });
});
