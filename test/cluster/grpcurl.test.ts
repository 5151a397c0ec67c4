// SPDX-License-Identifier: Apache-2.0
// Tests the API with the real grpcurl, which learns the API only by reflection: lists, descriptions and calls, with the field names of the
// .proto files. The command line is the one in README.md. The tests need no cluster; they are in this folder because grpcurl is built with
// Go.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GrpcServer } from '../../daemon/api/grpc.ts';
import { buildTool } from '../tools/build.ts';
import { FakeView, handover, services } from '../unit/api/fixture.ts';

const root = join(import.meta.dirname, '../..');
const directory = mkdtempSync(join(tmpdir(), 'sluice-grpcurl-'));
const socketPath = join(directory, 's.sock');
const view = new FakeView();
const server = new GrpcServer({ view, reload: () => ({ hooks: 12, milliseconds: 34.5 }), handover, socketPath });
let program: string;

beforeAll(async () => {
  const built = buildTool('grpcurl', 'github.com/fullstorydev/grpcurl/cmd/grpcurl');
  if ('obstacle' in built) throw new Error(built.obstacle);
  program = built.program;
  await server.start();
});

afterAll(async () => {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

/**
 * Runs grpcurl with the arguments; the argument SOCKET is replaced by the path of the socket. Returns its output, and its errors if it
 * failed.
 */
function run(...args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      program,
      args.map((arg) => (arg === 'SOCKET' ? socketPath : arg)),
    );
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', reject);
    child.on('close', () => resolve(output));
  });
}

const grpcurl = (...args: readonly string[]): Promise<string> => run('-plaintext', '-unix', 'SOCKET', ...args);
const call = async (method: string, request: object = {}): Promise<unknown> =>
  JSON.parse(await run('-plaintext', '-unix', '-d', JSON.stringify(request), 'SOCKET', method));

const served = [
  'grpc.health.v1.Health',
  'grpc.reflection.v1.ServerReflection',
  'grpc.reflection.v1alpha.ServerReflection',
  'sluice.v1.Admin',
  'sluice.v1.Sluice',
];

test('the command in README.md lists the services', async () => {
  const [, line] = /^ *grpcurl (.*?) *(?:#.*)?$/m.exec(readFileSync(join(root, 'README.md'), 'utf8')) ?? [];
  const args = (line ?? '').split(/\s+/).map((arg) => (arg === '/run/sluice/sluice.sock' ? 'SOCKET' : arg));
  expect(args).toContain('SOCKET');
  expect((await run(...args)).trim().split('\n')).toEqual(served);
});

describe('describe', () => {
  test('grpcurl describe prints every service and every message', async () => {
    const output = await grpcurl('describe');
    for (const name of served) expect(output).toContain(`${name} is a service:`);
    // grpcurl fails for a file that it cannot link.
    expect(output).not.toMatch(/^(error|failed)/im);
  });

  test('a described message has the names, numbers and reserved fields of the .proto file', async () => {
    const source = readFileSync(join(root, 'proto/sluice/v1/sluice.proto'), 'utf8');
    const fieldsOf = (text: string): string[] =>
      [...text.matchAll(/^ +(?:repeated )?[.\w]+ (\w+) = (\d+);/gm)].map(([, name, number]) => `${name} = ${number}`).sort();
    const messages = [...source.matchAll(/^message (\w+) \{\n(.*?)^\}/gms)];
    expect(messages.length).toBeGreaterThan(20);
    const port = messages.find(([, name]) => name === 'ServicePort');
    const output = await grpcurl('describe', 'sluice.v1.ServicePort');
    expect(fieldsOf(output)).toEqual(fieldsOf(port?.[2] ?? ''));
    expect(fieldsOf(output)).toContain('port_name = 5');
    expect(output).toContain('reserved 8;');
    expect(output).toContain('reserved "type";');
  });

  test('a map field is described as a map', async () => {
    expect(await grpcurl('describe', 'grpc.health.v1.HealthListResponse')).toContain(
      'map<string, .grpc.health.v1.HealthCheckResponse> statuses = 1;',
    );
  });
});

describe('calls', () => {
  test('Status', async () => {
    expect(await call('sluice.v1.Sluice/Status')).toMatchObject({ agent: { node: 'node-a' }, ready: true });
  });

  test('ListServices accepts a page size and a page token by their names in the .proto file', async () => {
    const first = (await call('sluice.v1.Sluice/ListServices', { page_size: 1 })) as { services: object[]; nextPageToken: string };
    expect(first.services).toHaveLength(1);
    const rest = await call('sluice.v1.Sluice/ListServices', { page_token: first.nextPageToken });
    expect(rest).toMatchObject({ services: [{ key: 'default/api:/TCP/IPv6' }, { portName: 'http', inSync: true }] });
    expect(rest).not.toHaveProperty('nextPageToken');
  });

  test('5,000 Services with 20 endpoints each are listed page by page within the default message limit of grpcurl', async () => {
    const [, , web] = services as [(typeof services)[number], (typeof services)[number], (typeof services)[number]];
    const at = Array.from({ length: 20 }, (_, n) => ({ address: `fd00:10:244:1000:2000:3000:4000:${n}`, port: 8080 }));
    const backends = at.map((each) => ({ ...each, use: 'active', isLocal: true, isUsable: true, isLocallyUsable: true }) as const);
    const run20 = at.map((each, n) => ({ ...each, id: 100_000 + n, slots: 2 }));
    view.rows = Array.from({ length: 5000 }, (_, n) => ({ ...web, key: `default/${String(n).padStart(4, '0')}`, backends, run: run20 }));
    const keys: string[] = [];
    for (let pageToken: string | undefined = ''; pageToken !== undefined;) {
      const request = { page_token: pageToken };
      const page = (await call('sluice.v1.Sluice/ListServices', request)) as { services: { key: string }[]; nextPageToken?: string };
      keys.push(...page.services.map(({ key }) => key));
      pageToken = page.nextPageToken;
    }
    expect(keys).toEqual(view.rows.map(({ key }) => key));
    view.rows = services;
  });

  test('ListBackends, Explain, Reload and Health can be called', async () => {
    expect(await call('sluice.v1.Sluice/ListBackends')).toMatchObject({ backends: [{ id: 1 }, { id: 9 }] });
    const packets = [{ protocol: 'TCP', source_ip: '10.0.0.1', dest_ip: '10.96.0.10', dest_port: 80 }];
    expect(await call('sluice.v1.Sluice/Explain', { packets })).toEqual({ explanations: [{ verdict: 'NONE', reason: 'not ours' }] });
    expect(await call('sluice.v1.Admin/Reload')).toEqual({ hooks: 12, milliseconds: 34.5 });
    expect(await call('grpc.health.v1.Health/Check')).toEqual({ status: 'SERVING' });
    expect(Object.keys(((await call('grpc.health.v1.Health/List')) as { statuses: object }).statuses)).toContain('sluice.v1.Sluice');
  });

  test('an error is shown with its status and message', async () => {
    const output = await run('-plaintext', '-unix', '-d', '{"page_token": "x"}', 'SOCKET', 'sluice.v1.Sluice/ListServices');
    expect(output).toMatch(/Code: InvalidArgument\s+Message: page_token is not a next_page_token of this agent/);
  });
});
