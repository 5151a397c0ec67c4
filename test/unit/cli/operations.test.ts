// SPDX-License-Identifier: Apache-2.0
// The commands that operate the agent, `sluice reload`, `sluice drain` and `sluice migrate`, against a gRPC server whose agent changes nothing.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { GrpcServer, type HandoverCalls } from '../../../daemon/api/grpc.ts';
import { ExitError, KernelError } from '../../../daemon/base/errors.ts';
import { run } from '../../../daemon/cli/run.ts';
import type { ReloadReport } from '../../../daemon/status/view.ts';
import { FakeView, handover } from '../api/fixture.ts';

let directory: string;
let server: GrpcServer;
let calls: HandoverCalls;
let reload: () => ReloadReport;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-cli-'));
  calls = handover;
  reload = () => ({ hooks: 12, milliseconds: 34.5 });
  const relay: HandoverCalls = { drain: () => calls.drain(), migrate: (isDone) => calls.migrate(isDone) };
  server = new GrpcServer({ view: new FakeView(), reload: () => reload(), handover: relay, socketPath: join(directory, 's.sock') });
  await server.start();
});

afterEach(async () => {
  await server.stop();
  rmSync(directory, { recursive: true });
});

async function sluice(...argv: readonly string[]): Promise<{ exitCode: number; out: string; err: string }> {
  let [out, err] = ['', ''];
  const unused = (): never => expect.fail('only these commands run here');
  const exitCode = await run(argv, {
    ...{ env: { SLUICE_SOCKET: join(directory, 's.sock') }, out: (text) => (out += text), err: (text) => (err += text) },
    ...{ preflight: unused, plan: unused, explain: unused, uninstall: unused },
  });
  return { exitCode, out, err };
}

test('drain prints the flows that are open', async () => {
  const out = 'draining: new connections are left to kube-proxy; open: 2 TCP flows, 1 UDP flow, 0 SCTP flows\n';
  expect(await sluice('drain')).toEqual({ exitCode: 0, out, err: '' });
});

test('migrate begins the migration, and with --done completes it', async () => {
  const asked: boolean[] = [];
  calls = { ...handover, migrate: (isDone) => void asked.push(isDone) };
  expect((await sluice('migrate')).out).toBe('migrating: the connections that kube-proxy has opened pass untouched\n');
  expect((await sluice('migrate', '--done')).out).toBe('serving: every connection is served\n');
  expect(asked).toEqual([false, true]);
});

test('a rejection by the agent is one message', async () => {
  calls = {
    drain: () => Promise.reject(new KernelError({ op: 'map update', object: 'lb_config', errno: 1, code: 'EPERM' })),
    migrate: () => {
      throw new ExitError(1, 'the agent drains: run `sluice migrate` first');
    },
  };
  const rejected = await sluice('migrate', '--done');
  expect(rejected).toMatchObject({ exitCode: 1, out: '' });
  expect(rejected.err).toContain('the agent drains: run `sluice migrate` first');
  expect((await sluice('drain')).err).toContain('map update lb_config: EPERM');
});

test('reload prints how many hooks got new programs', async () => {
  expect(await sluice('reload')).toEqual({ exitCode: 0, out: 'replaced the programs on 12 hooks in 35 ms\n', err: '' });
  expect(JSON.parse((await sluice('reload', '-o', 'json')).out)).toEqual({ hooks: 12, milliseconds: 34.5 });
});

test('reload prints only the message when the daemon rejects it', async () => {
  reload = () => {
    throw new ExitError(11, 'the objects have another map layout: restart sluiced');
  };
  expect(await sluice('reload')).toEqual({
    ...{ exitCode: 1, out: '' },
    err: 'sluice: the objects have another map layout: restart sluiced\n',
  });
});
