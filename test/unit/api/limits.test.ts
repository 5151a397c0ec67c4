// SPDX-License-Identifier: Apache-2.0
// The limits of the gRPC API. The clients of these tests send too many requests, do not read responses, or disconnect. Meanwhile the
// event loop must stay free, memory must stay bounded, and other clients must be served.
import { type Client, credentials, loadPackageDefinition, type ServiceError, status as code } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoPath as healthProto } from 'grpc-health-check';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import type { ConnectionLimits } from '../../../daemon/api/connections.ts';
import { GrpcServer } from '../../../daemon/api/grpc.ts';
import * as limits from '../../../daemon/api/limits.ts';
import { KernelError } from '../../../daemon/base/errors.ts';
import { askExplain, askServices, askStatus } from '../../../daemon/cli/client.ts';
import type { Explanation, PacketQuery } from '../../../daemon/model/explanation.ts';
import type { AgentStatus, ServiceView } from '../../../daemon/status/view.ts';
import { loadSluice, maxPackets } from '../../../proto/load.ts';
import { collectGarbage } from '../../support/garbage.ts';
import { RawClient, statusOf } from './abuse-fixture.ts';
import { FakeView, handover, services, status as agentStatus } from './fixture.ts';

/**
 * Longest time for which the server may block the event loop. It is much longer than a slice of work (limits.sliceMs), because a busy
 * machine delays the event loop too.
 */
const longestMs = 250;

function work(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end;);
}

/** A view that needs time for each row and packet. It counts the computations (`rounds`) and their rows and packets (`computed`). */
class SlowView extends FakeView {
  /** The time that each row or packet takes. On a large cluster, the real view needs time too. */
  rowMs = 1;
  rounds = 0;
  computed = 0;

  override *services(): Iterable<ServiceView> {
    this.rounds += 1;
    for (const row of this.rows) {
      work(this.rowMs);
      this.computed += 1;
      yield row;
    }
  }

  override status(): AgentStatus {
    this.rounds += 1;
    work(20);
    return super.status();
  }

  override *explain(questions: readonly PacketQuery[]): Iterable<Explanation> {
    for (const answer of super.explain(questions)) {
      work(this.rowMs);
      this.computed += 1;
      yield answer;
    }
  }
}

let directory: string;
let socketPath: string;
let view: SlowView;
const undo: (() => unknown)[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-limits-'));
  socketPath = join(directory, 's.sock');
  view = new SlowView();
});

afterEach(async () => {
  for (const task of undo.splice(0).reverse()) await task();
  rmSync(directory, { recursive: true, force: true });
});

async function startServer(smaller: Partial<ConnectionLimits> = {}, reload = () => ({ hooks: 1, milliseconds: 1 })): Promise<GrpcServer> {
  const server = new GrpcServer({ view, reload, handover, socketPath, limits: smaller });
  await server.start();
  undo.push(() => server.stop());
  return server;
}

function rawClient(window?: number): RawClient {
  const client = new RawClient(socketPath, window);
  undo.push(() => client.close());
  return client;
}

/** A connection that sends nothing. */
async function silent(): Promise<{ readonly socket: Socket; readonly closed: Promise<void> }> {
  const socket = connect(socketPath).resume();
  undo.push(() => socket.destroy());
  const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()));
  await new Promise<void>((resolve) => void socket.once('connect', () => resolve()));
  return { socket, closed };
}

const sluiceClient = () => {
  const client = new (loadSluice().Sluice)(`unix:${socketPath}`, credentials.createInsecure());
  undo.push(() => client.close());
  return client;
};

const daemon = () => ({ socket: socketPath, timeoutMs: 60_000 });

const packet: PacketQuery = { protocol: 'TCP', sourceIP: '10.0.0.1', sourcePort: 0, destIP: '10.96.0.1', destPort: 80 };
const message = { protocol: 'TCP', sourceIp: '10.0.0.1', destIp: '10.96.0.1', destPort: 80 };

/** Returns many rows, each of about `bytes` bytes. */
function manyRows(count: number, bytes = 0): ServiceView[] {
  const [, , web] = services as [ServiceView, ServiceView, ServiceView];
  const difference = 'x'.repeat(bytes);
  return Array.from({ length: count }, (_, n) => ({ ...web, key: `default/web-${String(n).padStart(6, '0')}`, differences: [difference] }));
}

/** The bytes that the objects and buffers of this process use. */
function usedBytes(): number {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

async function until(isTrue: () => boolean): Promise<void> {
  for (const end = Date.now() + 60_000; !isTrue();) {
    if (Date.now() > end) throw new Error('the condition did not become true');
    await sleep(5);
  }
}

/** Runs the task, and returns the longest time in ms for which the event loop was blocked meanwhile. */
async function longestPause(task: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  await task();
  delay.disable();
  return delay.max / 1e6;
}

describe('work in slices', () => {
  test('a long list, long explanations and many calls never block the event loop for long', async () => {
    view.rows = manyRows(600);
    await startServer();
    // Raw clients do not decode the responses. Decoding in this process would block the event loop too.
    const raw = [rawClient(), rawClient(), rawClient(), rawClient()];
    const call = (client: RawClient, method: string) => statusOf(client.call(`/sluice.v1.Sluice/${method}`, [Buffer.alloc(0)]).resume());
    const calls = (method: string): Promise<unknown>[] => raw.flatMap((client) => Array.from({ length: 8 }, () => call(client, method)));
    await Promise.all(calls('Status'));
    const pause = await longestPause(() =>
      Promise.all([...calls('ListServices'), ...calls('Status'), askExplain(daemon(), Array<PacketQuery>(600).fill(packet))]),
    );
    expect(pause).toBeLessThan(longestMs);
  });

  test('200 simultaneous calls of a list share its computation, and all get the same response', async () => {
    view.rows = manyRows(50);
    await startServer();
    const client = sluiceClient();
    const list = (): Promise<unknown> =>
      new Promise(
        (resolve, reject) => void client.listServices({}, (error, response) => (error === null ? resolve(response) : reject(error))),
      );
    const responses = await Promise.all(Array.from({ length: 200 }, list));
    expect(new Set(responses.map((response) => JSON.stringify(response))).size).toBe(1);
    // The client sends the calls in groups of maxCallsPerConnection. The list is computed once for each group, or twice if the group
    // arrives in two parts.
    expect(view.rounds).toBeLessThanOrEqual((2 * 200) / limits.maxCallsPerConnection + 2);
  });

  test('a call never gets a result that was computed before the call', async () => {
    view.rows = manyRows(30);
    await startServer();
    for (let round = 0; round < 5; round += 1) {
      const before = askServices(daemon());
      await until(() => view.computed > round * 60);
      const changed = manyRows(31 + round);
      view.rows = changed;
      expect((await askServices(daemon())).services).toHaveLength(changed.length);
      await before;
    }
  });

  test('simultaneous Reload calls share a reload', async () => {
    let reloads = 0;
    await startServer({}, () => ({ hooks: (reloads += 1), milliseconds: 1 }));
    const client = new (loadSluice().Admin)(`unix:${socketPath}`, credentials.createInsecure());
    undo.push(() => client.close());
    await Promise.all(Array.from({ length: 100 }, () => new Promise<void>((resolve) => void client.reload({}, () => resolve()))));
    expect(reloads).toBeLessThanOrEqual((2 * 100) / limits.maxCallsPerConnection + 2);
  });
});

describe('calls whose client has disconnected', () => {
  test.for([
    { name: 'is cancelled', options: {}, isCancelled: true },
    { name: 'has passed its deadline', options: { deadlineMs: 500 }, isCancelled: false },
  ])('the server stops the work of a call that $name', async ({ options, isCancelled }) => {
    view.rows = manyRows(3000);
    view.rowMs = 10;
    await startServer();
    const client = sluiceClient();
    const deadline = 'deadlineMs' in options ? new Date(Date.now() + options.deadlineMs) : new Date(Date.now() + 60_000);
    const packets = Array<typeof message>(maxPackets).fill(message);
    const codes = await Promise.all(
      [
        (done: (error: ServiceError | null) => void) => client.listServices({}, { deadline }, done),
        (done: (error: ServiceError | null) => void) => client.explain({ packets }, { deadline }, done),
      ].map(async (call) => {
        const ended = Promise.withResolvers<number | undefined>();
        const running = call((error) => ended.resolve(error?.code));
        if (isCancelled) {
          await until(() => view.computed > 0);
          running.cancel();
        }
        return ended.promise;
      }),
    );
    const expected = isCancelled ? code.CANCELLED : code.DEADLINE_EXCEEDED;
    expect(codes).toEqual([expected, expected]);
    // The server receives the cancellation a moment later.
    await sleep(100);
    const stopped = view.computed;
    await sleep(200);
    expect(view.computed).toBe(stopped);
    expect(stopped).toBeLessThan(1000);
  });
});

describe('requests that are too large', () => {
  const explain = (count: number): Promise<ServiceError | null> =>
    new Promise(
      (resolve) => void sluiceClient().explain({ packets: Array<typeof message>(count).fill(message) }, (error) => resolve(error)),
    );

  test('Explain rejects more packets than the limit, and names the limit', async () => {
    await startServer();
    expect(await explain(maxPackets)).toBeNull();
    expect(await explain(maxPackets + 1)).toMatchObject({
      code: code.INVALID_ARGUMENT,
      details: `packets has ${maxPackets + 1} elements, and at most ${maxPackets} are allowed: send several requests`,
    });
    expect(await explain(50_000)).toMatchObject({ code: code.RESOURCE_EXHAUSTED });
    expect(view.computed).toBe(maxPackets);
  });

  test('the client of the sluice command sends several requests, in order', async () => {
    await startServer();
    const { explanations } = await askExplain(daemon(), Array<PacketQuery>(300).fill(packet));
    expect(explanations).toHaveLength(300);
    const wrong = Array.from({ length: 300 }, (_, n) => (n === 200 ? { ...packet, from: 'nowhere' as 'pod' } : packet));
    await expect(askExplain(daemon(), wrong)).rejects.toThrow('packets[200]: from must be pod, node or external, is "nowhere"');
  });

  test('Explain waits until the programs are loaded, other calls are answered meanwhile, and a failure to load is reported', async () => {
    await startServer();
    const loading = Promise.withResolvers<void>();
    view.explainReady = () => loading.promise;
    const answer = explain(1);
    expect(await new Promise((resolve) => void sluiceClient().status({}, (error) => resolve(error)))).toBeNull();
    expect(view.computed).toBe(0);
    loading.resolve();
    expect(await answer).toBeNull();
    expect(view.computed).toBe(1);
    view.explainReady = () => Promise.reject(new KernelError({ op: 'load', object: 'explain.bpf.o', errno: 12, code: 'ENOMEM' }));
    expect(await explain(1)).toMatchObject({ code: code.FAILED_PRECONDITION, details: expect.stringContaining('ENOMEM') as unknown });
  });

  test('more Explain calls than the limit are rejected, and later calls succeed', async () => {
    await startServer();
    const results = await Promise.all(Array.from({ length: 14 }, () => explain(maxPackets)));
    const rejected = results.filter((error) => error !== null);
    expect(rejected.length).toBe(14 - limits.maxExplains);
    expect(rejected[0]).toMatchObject({
      code: code.RESOURCE_EXHAUSTED,
      details: `${limits.maxExplains} Explain calls are in progress: try again later`,
    });
    expect(await explain(1)).toBeNull();
  });
});

describe('connections', () => {
  test('a new connection replaces the one that has been idle longest, and a connection with a call is kept', async () => {
    await startServer({ maxConnections: 4 });
    const busy = rawClient();
    busy.call('/grpc.health.v1.Health/Watch', [Buffer.alloc(0)]);
    await nextTurn();
    const idle = [await silent(), await silent(), await silent()];
    const [first] = idle;
    expect(await askStatus(daemon())).toBeDefined();
    await first?.closed;
    expect([busy.session.destroyed, ...idle.map(({ socket }) => socket.destroyed)]).toEqual([false, true, false, false]);
  });

  test('1,100 idle connections do not keep other clients out', async () => {
    await startServer();
    for (let n = 0; n < 1100; n += 1) await silent();
    expect(await askStatus(daemon())).toBeDefined();
  });

  test('a connection that has been idle for idleConnectionMs is closed, but not while a call is in progress', async () => {
    await startServer({ idleConnectionMs: 100 });
    const busy = rawClient();
    busy.call('/grpc.health.v1.Health/Watch', [Buffer.alloc(0)]);
    const { closed } = await silent();
    await closed;
    expect(busy.session.destroyed).toBe(false);
  });

  test('the number of simultaneous calls per connection is limited', async () => {
    await startServer();
    const client = rawClient();
    await new Promise<void>((resolve) => void client.session.once('remoteSettings', () => resolve()));
    expect(client.session.remoteSettings.maxConcurrentStreams).toBe(limits.maxCallsPerConnection);
  });
});

describe('responses that are not read', () => {
  const list = '/sluice.v1.Sluice/ListServices';

  test('if a client does not read, its calls are rejected and then its connection is closed; other clients are not affected', async () => {
    view.rows = manyRows(120, 12_000);
    await startServer({ callMs: 10_000 });
    const client = rawClient();
    const calls = Array.from({ length: limits.maxCallsPerConnection }, () => client.call(list, [Buffer.alloc(0)]));
    const rejected = await Promise.race(
      calls.map(async (call) => ((await statusOf(call)).code === '8' ? statusOf(call) : new Promise<never>(() => undefined))),
    );
    expect(rejected).toBeDefined();
    // Another client is served meanwhile.
    expect((await askServices(daemon())).services).toHaveLength(120);
    await client.closed;
    expect((await askServices(daemon())).services).toHaveLength(120);
  });

  test('a response that no client accepts is rejected with its length', async () => {
    // The kernel limits the arguments of a process, so that the daemon cannot have such a setting.
    view.status = () => ({ ...agentStatus, settings: [{ name: 'cluster-cidr', value: '10.244.100.0/24,'.repeat(300_000) }] });
    await startServer();
    await expect(askStatus(daemon())).rejects.toThrow(/the response has \d{7} bytes, and at most 4194304 are sent/);
  });

  test('2,560 lists that are not read hold no more memory than the budget', async () => {
    view.rows = manyRows(300, 5000);
    await startServer();
    const before = usedBytes();
    for (let n = 0; n < 160; n += 1) {
      const client = rawClient(0);
      for (let each = 0; each < limits.maxCallsPerConnection; each += 1) client.call(list, [Buffer.alloc(0)]);
      await nextTurn();
    }
    await until(() => view.computed >= view.rows.length);
    expect(await askStatus(daemon())).toBeDefined();
    await sleep(1000);
    expect(usedBytes() - before).toBeLessThan(3 * limits.unreadBytes);
  });

  test('a request that is never completed is ended', async () => {
    await startServer({ callMs: 200 });
    const client = rawClient();
    const call = client.call(list, [], { isComplete: false });
    const status = statusOf(call);
    call.resume();
    expect(await status).toEqual({ code: String(code.DEADLINE_EXCEEDED), message: 'the call did not end within 0.2 s' });
  });
});

describe('streams', () => {
  const watchPath = '/grpc.health.v1.Health/Watch';
  /** HealthCheckRequest{service}. */
  const healthRequest = (service: string): Buffer => {
    const text = Buffer.from(service);
    const length = text.length < 128 ? [text.length] : [(text.length & 0x7f) | 0x80, (text.length >> 7) & 0x7f];
    return Buffer.concat([Buffer.from([0x0a, ...length]), text]);
  };

  test('the number of health watches is limited, including those of unknown services, and Check still works', async () => {
    await startServer();
    const [first, second] = [rawClient(), rawClient()];
    for (let n = 0; n < 10; n += 1) first.call(watchPath, [healthRequest('')]);
    for (let n = 0; n < 6; n += 1) second.call(watchPath, [healthRequest(`unknown-${n}`)]);
    await sleep(200);
    const status = statusOf(second.call(watchPath, [healthRequest('')]).resume());
    expect(await status).toMatchObject({ code: '8', message: expect.stringContaining('16 watches are in progress') as string });
    expect((await statusOf(second.call('/grpc.health.v1.Health/Check', [healthRequest('')]).resume())).code).toBe('0');
    first.close();
    await until(() => first.session.destroyed);
    await sleep(100);
    const again = second.call(watchPath, [healthRequest('')]).resume();
    const answered = new Promise((resolve) => void again.once('data', resolve));
    expect(await answered).toBeDefined();
  });

  test('a watch of an unknown service stays open and holds no memory', async () => {
    await startServer();
    const health = loadPackageDefinition(loadSync(healthProto, { enums: String })) as unknown as {
      grpc: { health: { v1: { Health: new (...args: unknown[]) => Client & { Watch(request: object): NodeJS.ReadableStream } } } };
    };
    const client = new health.grpc.health.v1.Health(`unix:${socketPath}`, credentials.createInsecure());
    undo.push(() => client.close());
    const watch = client.Watch({ service: 'no.such.Service' });
    watch.on('error', () => undefined);
    expect(await new Promise((resolve) => void watch.once('data', resolve))).toEqual({ status: 'SERVICE_UNKNOWN' });
  });

  test('reflection reads no further requests while the client does not read the answers', async () => {
    await startServer();
    const root = dirname(createRequire(import.meta.url).resolve('@grpc/reflection/package.json'));
    const proto = loadSync(join(root, 'build/proto/grpc/reflection/v1/reflection.proto'), { oneofs: true });
    const definition = proto['grpc.reflection.v1.ServerReflection'] as unknown as {
      ServerReflectionInfo: { requestSerialize(value: object): Buffer };
    };
    const request = definition.ServerReflectionInfo.requestSerialize({ fileContainingSymbol: 'sluice.v1.Sluice' });
    const client = rawClient();
    const stream = client.call('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo', [request], { isComplete: false });
    await until(() => stream.readableLength > 0);
    const framed = Buffer.concat([Buffer.from([0, 0, 0, 0, request.length]), request]);
    const total = 20_000;
    const before = usedBytes();
    stream.write(Buffer.concat(Array<Buffer>(total).fill(framed)));
    await sleep(1000);
    // Each answer has about 30 KB. The server must not have made 20,000 of them.
    expect(usedBytes() - before).toBeLessThan(150 * 1024 * 1024);
    expect(await askStatus(daemon())).toBeDefined();
  });

  test('the number of reflection streams is limited', async () => {
    await startServer();
    const client = rawClient();
    const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
    for (let n = 0; n < limits.maxReflections; n += 1) client.call(path, [], { isComplete: false });
    await sleep(100);
    const status = statusOf(client.call(path, [], { isComplete: false }).resume());
    expect(await status).toMatchObject({ code: '8', message: expect.stringContaining('reflection streams are open') as string });
  });
});
