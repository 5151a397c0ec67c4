// SPDX-License-Identifier: Apache-2.0
// All reports about the state of the agent must agree, because only severity.ts determines the severity. Each test puts the agent into
// one state and compares the reports: Status and the health service of gRPC, /readyz, /metrics, and the text and exit code of
// `sluice status`.
import { type Client, credentials, loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoPath as healthProto } from 'grpc-health-check';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GrpcServer } from '../../../daemon/api/grpc.ts';
import { buildHttp } from '../../../daemon/api/http.ts';
import { buildMetrics, metricsPage } from '../../../daemon/api/metrics.ts';
import { HttpServers } from '../../../daemon/base/http-servers.ts';
import { run } from '../../../daemon/cli/run.ts';
import type { AgentStatus, FindingKind, Severity } from '../../../daemon/status/view.ts';
import { loadSluice } from '../../../proto/load.ts';
import { FakeView, handover, status as healthy, troubledStatus } from '../api/fixture.ts';

const directory = mkdtempSync(join(tmpdir(), 'sluice-agree-'));
const socketPath = join(directory, 's.sock');
const view = new FakeView();
const server = new GrpcServer({ view, reload: () => ({ hooks: 0, milliseconds: 0 }), handover, socketPath });
/** Each call returns a time one second later, so that no cached result is used. */
const clock = { time: 0, now: () => (clock.time += 1000) };
const page = metricsPage(buildMetrics({ view, versions: healthy }), { clock, onError: (error) => expect.fail(String(error)) });
const http = buildHttp({ view, page, servers: new HttpServers(), clock });
const clients: Client[] = [];

beforeAll(() => server.start());

afterAll(async () => {
  for (const client of clients) client.close();
  await Promise.all([server.stop(), http.close()]);
  rmSync(directory, { recursive: true, force: true });
});

function clientOf(constructor: ServiceClientConstructor): Client {
  const client = new constructor(`unix:${socketPath}`, credentials.createInsecure());
  clients.push(client);
  return client;
}

type Unary = (request: object, callback: (error: Error | null, response: unknown) => void) => void;

const call = (client: Client, method: string): Promise<unknown> =>
  new Promise((resolve, reject) => {
    const unary = (client as unknown as Record<string, Unary>)[method];
    unary?.call(client, {}, (error, response) => (error === null ? resolve(response) : reject(error)));
  });

const { grpc } = loadPackageDefinition(loadSync(healthProto, { enums: String, defaults: true })) as unknown as {
  grpc: { health: { v1: { Health: ServiceClientConstructor } } };
};
const sluiceClient = clientOf(loadSluice().Sluice as unknown as ServiceClientConstructor);
const healthClient = clientOf(grpc.health.v1.Health);

async function sluiceStatus(): Promise<{ exitCode: number; text: string }> {
  let text = '';
  const unused = (): never => expect.fail('only `sluice status` runs here');
  const exitCode = await run(['status'], {
    ...{ env: { SLUICE_SOCKET: socketPath }, out: (more) => (text += more), err: (more) => (text += more) },
    ...{ preflight: unused, plan: unused, explain: unused, uninstall: unused },
  });
  return { exitCode, text };
}

interface Situation {
  readonly what: string;
  readonly change: Partial<AgentStatus>;
  readonly want: Severity;
}

const found = (kind: FindingKind): Partial<AgentStatus> => ({
  findings: { ...healthy.findings, [kind]: { ...healthy.findings[kind], problems: ['something is wrong: do this'] } },
});
const [source] = healthy.sources;
const failedRow = { key: 'default/web:/TCP/IPv4', message: 'lb4_backends is full', retries: 2 };

const situations: readonly Situation[] = [
  { what: 'nothing is wrong', change: {}, want: 'Ok' },
  { what: 'changes wait to be applied', change: { reconcile: { done: 1, pending: 5, error: 0, errors: [] } }, want: 'Ok' },
  {
    what: 'the first list is not finished',
    change: { ready: false, reasons: ['the first list is not finished'], sources: [{ ...source, isInitialized: false } as never] },
    want: 'NotReady',
  },
  {
    what: 'the first reconcile is not finished',
    change: { ready: false, reasons: ['the first reconcile is not finished'] },
    want: 'NotReady',
  },
  { what: 'everything is wrong', change: troubledStatus, want: 'NotReady' },
  { what: 'a part of the source is unreadable', change: { sources: [{ ...source, isComplete: false } as never] }, want: 'Degraded' },
  {
    what: 'an object is invalid',
    change: { sources: troubledStatus.sources.map((each) => ({ ...each, isInitialized: true })) },
    want: 'Degraded',
  },
  { what: 'a row fails', change: { reconcile: { done: 1, pending: 0, error: 1, errors: [failedRow] } }, want: 'Degraded' },
  {
    what: 'a step of a loop fails',
    change: { reconcile: { done: 1, pending: 0, error: 0, errors: [{ ...failedRow, key: 'prune of host' }] } },
    want: 'Degraded',
  },
  { what: 'the host has a problem', change: { hostProblems: ['net.ipv4.ip_forward is 0'] }, want: 'Degraded' },
  { what: 'a program is not on its hook', change: found('missingPrograms'), want: 'Degraded' },
  { what: 'a repair fails', change: { repairs: { total: 0, last: [], problems: ['map ct4 could not be repaired'] } }, want: 'Degraded' },
  { what: 'a difference was repaired', change: { repairs: { total: 1, last: [], problems: [] } }, want: 'Warning' },
  { what: 'no program is attached', change: { attachments: [] }, want: 'Warning' },
  { what: 'two Services claim a frontend', change: { conflicts: troubledStatus.conflicts }, want: 'Warning' },
  { what: 'a map is almost full', change: { maps: troubledStatus.maps }, want: 'Warning' },
  { what: 'no Node has the name', change: found('node'), want: 'Warning' },
  { what: 'a device does not exist', change: found('devices'), want: 'Warning' },
  { what: 'another sluiced is on the hooks', change: found('otherAgents'), want: 'Warning' },
  { what: 'a program of another owner has the place of ours', change: found('displacedPrograms'), want: 'Warning' },
  { what: 'a size setting has no effect', change: found('mapSizes'), want: 'Warning' },
  { what: 'NetworkPolicies are not enforced', change: found('networkPolicies'), want: 'Warning' },
];

const words = { Ok: 'SEVERITY_OK', Warning: 'SEVERITY_WARNING', Degraded: 'SEVERITY_DEGRADED', NotReady: 'SEVERITY_NOT_READY' } as const;

test.for(situations)('all reports agree on $want if $what', async ({ change, want }) => {
  view.current = { ...healthy, ...change };
  const isReady = want !== 'NotReady';
  const status = (await call(sluiceClient, 'Status')) as { ready: boolean; severity: string; lines: { severity: string }[] };
  expect({ ready: status.ready, severity: status.severity }).toEqual({ ready: isReady, severity: words[want] });
  expect(status.lines.some(({ severity }) => severity === words[want])).toBe(true);
  expect(status.lines.some(({ severity }) => severity === words.NotReady)).toBe(!isReady);
  expect(await call(healthClient, 'check')).toMatchObject({ status: isReady ? 'SERVING' : 'NOT_SERVING' });
  const readyz = await http.inject('/readyz');
  expect([readyz.statusCode, readyz.json<{ ready: boolean }>().ready]).toEqual(isReady ? [200, true] : [503, false]);
  expect((await http.inject('/metrics')).body).toMatch(new RegExp(`^sluice_ready ${isReady ? 1 : 0}$`, 'm'));

  const { exitCode, text } = await sluiceStatus();
  expect(exitCode).toBe(want === 'Ok' || want === 'Warning' ? 0 : 1);
  const severities = [...text.matchAll(/^\w+: +(Ok|Warning|Degraded|NotReady) /gm)].map(([, word]) => word);
  expect(severities).toHaveLength(status.lines.length);
  expect(severities).toContain(want);
  const order = ['Ok', 'Warning', 'Degraded', 'NotReady'];
  expect(Math.max(...severities.map((word) => order.indexOf(word ?? '')))).toBe(order.indexOf(want));
});
