// SPDX-License-Identifier: Apache-2.0
// The format of log lines, as JSON and as text.
import { expect, test } from 'vitest';
import { Writable } from 'node:stream';

import { KernelError, ExitError } from '../../../daemon/base/errors.ts';
import { createLog, subsystem } from '../../../daemon/base/log.ts';

function collect(): { stream: Writable; text: () => string } {
  let text = '';
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString();
      done();
    },
  });
  return { stream, text: () => text };
}

test('a JSON line has the fields level (as a word), ts, subsys and msg', async () => {
  const { stream, text } = collect();
  subsystem(await createLog({ logLevel: 'info', logFormat: 'json' }, stream), 'source').warn({ file: 'a.yaml' }, 'file skipped');
  const { ts, ...line } = JSON.parse(text()) as Record<string, unknown>;
  expect(line).toEqual({ level: 'warn', subsys: 'source', file: 'a.yaml', msg: 'file skipped' });
  expect(String(ts)).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
});

test('lines below the configured level are not written', async () => {
  const { stream, text } = collect();
  (await createLog({ logLevel: 'error', logFormat: 'json' }, stream)).warn('quiet');
  expect(text()).toBe('');
});

test.for([
  {
    name: 'a kernel failure',
    err: new KernelError({ op: 'map update', object: 'ct4', errno: 7, code: 'E2BIG' }),
    want: { name: 'KernelError', message: 'map update ct4: E2BIG', op: 'map update', object: 'ct4', code: 'E2BIG' },
  },
  { name: 'an expected error', err: new ExitError(2, 'no'), want: { name: 'ExitError', message: 'no' } },
])('$name is logged with its message, without a stack trace', async ({ err, want }) => {
  const { stream, text } = collect();
  (await createLog({ logLevel: 'info', logFormat: 'json' }, stream)).error({ err }, 'failed');
  expect((JSON.parse(text()) as { err: unknown }).err).toEqual(want);
});

test('an unexpected error is logged with its stack trace', async () => {
  const { stream, text } = collect();
  (await createLog({ logLevel: 'info', logFormat: 'json' }, stream)).error({ err: new TypeError('odd') }, 'failed');
  expect((JSON.parse(text()) as { err: unknown }).err).toMatchObject({
    type: 'TypeError',
    message: 'odd',
    stack: expect.stringContaining('at ') as string,
  });
});

test('the text format prints a line that people can read', async () => {
  const { stream, text } = collect();
  subsystem(await createLog({ logLevel: 'info', logFormat: 'text' }, stream), 'api').info({ path: '/run/x' }, 'listening');
  expect(text()).toMatch(/^\[.*\] INFO: api: listening \{"path":"\/run\/x"\}\n$/);
});
