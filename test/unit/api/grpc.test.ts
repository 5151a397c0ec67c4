// SPDX-License-Identifier: Apache-2.0
// The gRPC server on a real Unix socket: messages, health, reflection, and the treatment of the socket's path.
import {
  type Client,
  credentials,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceError,
  status as code,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoPath as healthProto } from 'grpc-health-check';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { GrpcServer } from '../../../daemon/api/grpc.ts';
import { ExitCode, KernelError, ExitError } from '../../../daemon/base/errors.ts';
import { loadSluice } from '../../../proto/load.ts';
import type { ReloadReport } from '../../../daemon/status/view.ts';
import { FakeView, handover, troubledStatus } from './fixture.ts';

type Unary = (request: object, callback: (error: ServiceError | null, response: unknown) => void) => void;

let directory: string;
let socketPath: string;
let view: FakeView;
const undo: (() => unknown)[] = [];
let reload: () => ReloadReport;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-api-'));
  socketPath = join(directory, 'run', 'sluice.sock');
  view = new FakeView();
  reload = () => ({ hooks: 12, milliseconds: 34.5 });
});

afterEach(async () => {
  for (const task of undo.splice(0).reverse()) await task();
  rmSync(directory, { recursive: true, force: true });
});

async function startServer(): Promise<GrpcServer> {
  const server = new GrpcServer({ view, reload, handover, socketPath });
  await server.start();
  undo.push(() => server.stop());
  return server;
}

function clientOf<C extends Client>(constructor: new (target: string, creds: ReturnType<typeof credentials.createInsecure>) => C): C {
  const client = new constructor(`unix:${socketPath}`, credentials.createInsecure());
  undo.push(() => client.close());
  return client;
}

function call(client: Client, method: string): Promise<unknown> {
  const unary = (client as unknown as Record<string, Unary>)[method];
  if (unary === undefined) throw new Error(`no method ${method}`);
  return new Promise((resolve, reject) =>
    unary.call(client, {}, (error, response) => (error === null ? resolve(response) : reject(error))),
  );
}

const sluiceClient = (): Client => clientOf(loadSluice().Sluice);

const packageClient = (file: string, ...path: string[]): ServiceClientConstructor => {
  const loaded = loadPackageDefinition(loadSync(file, { longs: String, enums: String, defaults: true, oneofs: true }));
  return path.reduce<unknown>((at, part) => (at as Record<string, unknown>)[part], loaded) as ServiceClientConstructor;
};

const exitErrorOf = async (promise: Promise<unknown>): Promise<ExitError> => {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ExitError)) throw new Error(`no ExitError: ${String(error)}`);
  return error;
};

describe('sluice.v1.Sluice', () => {
  test('Status sets every field and keeps 64-bit counters exact', async () => {
    await startServer();
    const response = await call(sluiceClient(), 'Status');
    expect(response).toMatchObject({
      agent: { version: '0.1.0', commit: 'abc1234', libbpf: '1.5.0', kernel: '6.18.0', node: 'node-a', pid: 4242, uptimeSeconds: '3725' },
      ready: true,
      sources: [{ name: 'files /etc/sluice', initialized: true, complete: true, problems: [] }],
      reconcile: { done: '12', pending: '0', error: '0', errors: [] },
      counts: { services: '10', frontends: '12', backends: '30' },
      maps: [
        { name: 'lb4_frontends', type: 'hash', capacity: '65536', used: '12', pressure: 12 / 65_536 },
        { name: 'ct4', used: '-1', pressure: -1 },
      ],
      attachments: [{ kind: 'ATTACHMENT_KIND_TCX' }, { kind: 'ATTACHMENT_KIND_CGROUP', hook: 'connect4' }],
      socketLb: true,
      drops: [{ reason: 'no backend', packets: '9007199254740993', bytes: '540' }],
    });
  });

  test('Status returns the problems of an agent', async () => {
    view.current = troubledStatus;
    await startServer();
    expect(await call(sluiceClient(), 'Status')).toMatchObject({
      ready: false,
      notReadyReasons: troubledStatus.reasons,
      sources: [{ initialized: false, problems: [{ file: 'web.yaml', line: 7, field: 'spec.ports[0].port' }, { file: 'broken.yaml' }] }],
      reconcile: { errors: [{ key: 'default/big:/TCP/IPv4', retries: 3 }] },
      hostProblems: troubledStatus.hostProblems,
      conflicts: [{ owner: 'default/web:http/TCP/IPv4', contenders: ['default/late:http/TCP/IPv4'] }],
    });
  });

  test('ListServices returns the desired state and the kernel state', async () => {
    await startServer();
    const { services } = (await call(sluiceClient(), 'ListServices')) as { services: object[] };
    expect(services).toHaveLength(3);
    expect(services[0]).toMatchObject({ wanted: false, inSync: false, run: [{ id: 9, address: '10.0.9.9', slots: 1 }] });
    expect(services[1]).toMatchObject({
      family: 'IPv6',
      differences: ['kernel lacks [fd01::2]:8443'],
      row: { state: 'ROW_STATE_ERROR', message: 'lb6_backends is full', retries: 3 },
    });
    expect(services[2]).toMatchObject({
      inSync: true,
      frontends: [{ address: '10.96.0.10', port: 80, wanted: true, realized: true }],
      backends: [
        { state: 'BACKEND_STATE_ACTIVE', local: true },
        { state: 'BACKEND_STATE_TERMINATING', local: false },
      ],
    });
  });

  test('ListBackends returns entries that are not desired', async () => {
    await startServer();
    expect(await call(sluiceClient(), 'ListBackends')).toMatchObject({
      backends: [
        { flags: ['usable', 'local', 'serving', 'present'], wanted: true },
        { generation: 7, service: '', wanted: false },
      ],
    });
  });

  test('the error of a failing view becomes INTERNAL, without errno or stack trace', async () => {
    await startServer();
    view.failure = new KernelError({ op: 'map look-up', object: 'ct4', errno: 9, code: 'EBADF' });
    const error = (await call(sluiceClient(), 'Status').catch((reason: unknown) => reason)) as ServiceError;
    expect(error.code).toBe(code.INTERNAL);
    expect(error.details).toBe('the call failed unexpectedly; the log of the agent contains the error');
  });
});

describe('health and reflection', () => {
  const healthClient = (): Client => clientOf(packageClient(healthProto, 'grpc', 'health', 'v1', 'Health'));
  const check = (client: Client, service: string): Promise<unknown> =>
    new Promise((resolve) => {
      (client as unknown as Record<string, Unary>)['Check']?.({ service }, (error, response) => resolve(error?.code ?? response));
    });

  test.for(['', 'sluice.v1.Sluice'])('Check of "%s" returns the current readiness', async (name) => {
    view.current = troubledStatus;
    await startServer();
    const client = healthClient();
    expect(await check(client, name)).toEqual({ status: 'NOT_SERVING' });
    view.current = { ...troubledStatus, ready: true, reasons: [] };
    expect(await check(client, name)).toEqual({ status: 'SERVING' });
    expect(await check(client, 'no.such.Service')).toBe(code.NOT_FOUND);
  });

  test('Watch reports changes of readiness, and NOT_SERVING when the server stops', async () => {
    view.current = troubledStatus;
    const server = await startServer();
    const seen: string[] = [];
    const client = healthClient() as unknown as { Watch: (request: object) => NodeJS.ReadableStream };
    const watch = client.Watch({ service: '' });
    const ended = new Promise<void>((resolve) => void watch.on('error', () => resolve()).on('end', () => resolve()));
    const next = (): Promise<void> => new Promise((resolve) => void watch.once('data', () => resolve()));
    watch.on('data', (update: { status: string }) => seen.push(update.status));
    await next();
    const serving = next();
    view.current = { ...troubledStatus, ready: true, reasons: [] };
    server.publishHealth();
    server.publishHealth();
    await serving;
    await server.stop();
    await ended;
    expect(seen).toEqual(['NOT_SERVING', 'SERVING', 'NOT_SERVING']);
  });

  test.for(['v1', 'v1alpha'])('reflection %s lists the services', async (version) => {
    await startServer();
    const root = dirname(createRequire(import.meta.url).resolve('@grpc/reflection/package.json'));
    const proto = join(root, 'build', 'proto', 'grpc', 'reflection', version, 'reflection.proto');
    const constructor = packageClient(proto, 'grpc', 'reflection', version, 'ServerReflection');
    const client = clientOf(constructor) as unknown as { ServerReflectionInfo: () => NodeJS.ReadWriteStream };
    const stream = client.ServerReflectionInfo();
    const answer = new Promise((resolve, reject) => void stream.once('data', resolve).once('error', reject));
    stream.write({ listServices: '' } as unknown as string);
    const { listServicesResponse } = (await answer) as { listServicesResponse: { service: { name: string }[] } };
    stream.end();
    expect(listServicesResponse.service.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['sluice.v1.Sluice', 'grpc.health.v1.Health']),
    );
  });
});

describe('the socket', () => {
  const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);

  test('the socket has mode 660 in a directory of mode 750 with any umask, and is removed when the server stops', async () => {
    const before = process.umask(0o022);
    expect(existsSync(dirname(socketPath))).toBe(false);
    const server = await startServer();
    expect([mode(socketPath), mode(dirname(socketPath))]).toEqual(['660', '750']);
    expect(process.umask(before)).toBe(0o022);
    await server.stop();
    expect(existsSync(socketPath)).toBe(false);
  });

  test('the mode of an existing directory of the socket is not changed', async () => {
    mkdirSync(dirname(socketPath), { mode: 0o755 });
    await startServer();
    expect(mode(dirname(socketPath))).toBe('755');
  });

  test('the socket gets the configured group', async () => {
    // root may set any group, other users only their own.
    const gid = process.getuid?.() === 0 ? 1 : process.getgid?.();
    const group = readFileSync('/etc/group', 'utf8').match(new RegExp(`^([^:]+):[^:]*:${gid}:`, 'm'))?.[1] ?? '';
    const server = new GrpcServer({ view, reload, handover, socketPath, socketGroup: group });
    await server.start();
    undo.push(() => server.stop());
    expect([statSync(socketPath).gid, statSync(dirname(socketPath)).gid]).toEqual([gid, gid]);
  });

  test('an unknown group causes an error, and nothing is created', async () => {
    const server = new GrpcServer({ view, reload, handover, socketPath, socketGroup: 'no-such-group' });
    const error = await exitErrorOf(server.start());
    expect(error.exitCode).toBe(ExitCode.config);
    expect(error.message).toContain('no-such-group');
    expect(existsSync(dirname(socketPath))).toBe(false);
  });

  test('the socket of a process that has ended is replaced', async () => {
    mkdirSync(dirname(socketPath));
    // A killed process leaves a socket file without a listener. close() would unlink it, so the file is renamed first.
    const dead = createServer();
    await new Promise<void>((resolve) => void dead.listen(`${socketPath}.first`, () => resolve()));
    renameSync(`${socketPath}.first`, socketPath);
    await new Promise<void>((resolve) => void dead.close(() => resolve()));
    expect(existsSync(socketPath)).toBe(true);
    await startServer();
    expect(await call(sluiceClient(), 'ListBackends')).toBeDefined();
  });

  test("a socket that another process created in place of the daemon's own is kept when the server stops", async () => {
    const first = new GrpcServer({ view, reload, handover, socketPath });
    await first.start();
    unlinkSync(socketPath);
    const second = new GrpcServer({ view, reload, handover, socketPath });
    await second.start();
    await first.stop();
    expect(readdirSync(dirname(socketPath))).toEqual(['sluice.sock']);
    const other = connect(socketPath);
    await once(other, 'connect');
    other.destroy();
    await second.stop();
    expect(existsSync(socketPath)).toBe(false);
  });

  test('a socket that was removed is made again, with its directory, and open connections stay', async () => {
    const repaired: string[] = [];
    const server = new GrpcServer({
      view,
      reload,
      handover,
      socketPath,
      repairEveryMs: 20,
      onRepaired: (message) => repaired.push(message),
    });
    await server.start();
    undo.push(() => server.stop());
    const before = sluiceClient();
    await call(before, 'ListBackends');
    rmSync(dirname(socketPath), { recursive: true });
    await vi.waitUntil(() => repaired.length > 0, { timeout: 30_000 });
    expect([mode(socketPath), mode(dirname(socketPath))]).toEqual(['660', '750']);
    for (const client of [before, sluiceClient()]) expect(await call(client, 'ListBackends')).toBeDefined();
    await server.repairSocket();
    expect(repaired).toEqual([`API socket ${socketPath}: it was missing`]);
    await server.stop();
    expect(existsSync(socketPath)).toBe(false);
  });

  test('a socket whose path another process has taken is reported, and the other file stays', async () => {
    const server = await startServer();
    unlinkSync(socketPath);
    writeFileSync(socketPath, 'precious');
    await server.repairSocket();
    await server.stop();
    expect(readFileSync(socketPath, 'utf8')).toBe('precious');
  });

  test('the socket of a running daemon causes an error and is not touched', async () => {
    await startServer();
    const error = await exitErrorOf(new GrpcServer({ view, reload, handover, socketPath }).start());
    expect(error.exitCode).toBe(ExitCode.locked);
    expect(error.message).toContain(socketPath);
    expect(await call(sluiceClient(), 'ListBackends')).toBeDefined();
  });

  test('a file of another type at the path of the socket causes an error and is not touched', async () => {
    mkdirSync(dirname(socketPath));
    writeFileSync(socketPath, 'precious');
    const error = await exitErrorOf(new GrpcServer({ view, reload, handover, socketPath }).start());
    expect(error.exitCode).toBe(ExitCode.config);
    expect(statSync(socketPath).size).toBe(8);
  });

  test('a path that is too long for the kernel causes an error', async () => {
    socketPath = join(directory, 'x'.repeat(120));
    expect((await exitErrorOf(new GrpcServer({ view, reload, handover, socketPath }).start())).exitCode).toBe(ExitCode.failure);
  });

  test('a client that sends nothing does not delay stop()', async () => {
    const server = await startServer();
    const silent = connect(socketPath).resume();
    const closed = new Promise<void>((resolve) => void silent.once('close', () => resolve()));
    await new Promise<void>((resolve) => void silent.once('connect', () => resolve()));
    await nextTurn();
    // stop() waits for clients only during its grace period. This client never closes its connection.
    await server.stop();
    await server.stop();
    await closed;
  });
});
