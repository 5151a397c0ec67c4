// SPDX-License-Identifier: Apache-2.0
// What a log line looks like, in both formats.
import { expect, test } from 'vitest';
import { Writable } from 'node:stream';

import { KernelError, Refusal } from '../../daemon/errors.ts';
import { createLog, subsystem } from '../../daemon/log.ts';

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

test('JSON lines carry level as a word, ts, subsys and msg', () => {
  const { stream, text } = collect();
  subsystem(createLog({ logLevel: 'info', logFormat: 'json' }, stream), 'source').warn({ file: 'a.yaml' }, 'file skipped');
  const { ts, ...line } = JSON.parse(text()) as Record<string, unknown>;
  expect(line).toEqual({ level: 'warn', subsys: 'source', file: 'a.yaml', msg: 'file skipped' });
  expect(String(ts)).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
});

test('lines below the level are not written', () => {
  const { stream, text } = collect();
  createLog({ logLevel: 'error', logFormat: 'json' }, stream).warn('quiet');
  expect(text()).toBe('');
});

test.for([
  {
    name: 'a kernel failure',
    err: new KernelError({ op: 'map update', object: 'ct4', errno: 7, code: 'E2BIG' }),
    want: { name: 'KernelError', message: 'map update ct4: E2BIG', op: 'map update', object: 'ct4', code: 'E2BIG' },
  },
  { name: 'a refusal', err: new Refusal(2, 'no'), want: { name: 'Refusal', message: 'no' } },
])('$name is logged by its sentence, without a stack', ({ err, want }) => {
  const { stream, text } = collect();
  createLog({ logLevel: 'info', logFormat: 'json' }, stream).error({ err }, 'failed');
  expect((JSON.parse(text()) as { err: unknown }).err).toEqual(want);
});

test('an error that nobody foresaw keeps its stack', () => {
  const { stream, text } = collect();
  createLog({ logLevel: 'info', logFormat: 'json' }, stream).error({ err: new TypeError('odd') }, 'failed');
  expect((JSON.parse(text()) as { err: unknown }).err).toMatchObject({
    type: 'TypeError',
    message: 'odd',
    stack: expect.stringContaining('at ') as string,
  });
});

test('text lines are for people', () => {
  const { stream, text } = collect();
  subsystem(createLog({ logLevel: 'info', logFormat: 'text' }, stream), 'api').info({ path: '/run/x' }, 'listening');
  expect(text()).toMatch(/^\[.*\] INFO: api: listening \{"path":"\/run\/x"\}\n$/);
});
