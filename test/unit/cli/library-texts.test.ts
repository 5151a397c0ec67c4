// SPDX-License-Identifier: Apache-2.0
// A user must never see an error message of a library or of Node.js. Each test causes an error that a library or Node.js reports, and
// verifies that the output is a message of Sluice and has no words of the libraries.
import { createServer } from 'node:http2';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials, makeGenericClientConstructor, type ServiceError } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { GrpcServer } from '../../../daemon/api/grpc.ts';
import { buildHttp, listenHttp } from '../../../daemon/api/http.ts';
import { failureText, jsonReason, systemReason, yamlReason } from '../../../daemon/base/reasons.ts';
import { run } from '../../../daemon/cli/run.ts';
import { parseConfig } from '../../../daemon/config/resolve.ts';
import { parseNodeFile } from '../../../daemon/offline/node-file.ts';
import { readJson, readYaml } from '../../../daemon/source/files/values.ts';
import { HttpServers } from '../../../daemon/base/http-servers.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { FakeView, handover } from '../api/fixture.ts';
import { writeFiles } from '../source/fixture.ts';

/** Words that occur only in messages of the libraries and of Node.js. */
const foreign = [
  /error: |unknown (option|command)|argument missing|not specified|Expected \d+ argument|Allowed choices|Did you mean/,
  /Invalid (input|option)|expected (string|number|object|array)|Too (big|small)/,
  /Map keys must|Missing closing|Unresolved alias|at line \d+, column|Implicit (map )?keys|Nested mappings|Plain value cannot/,
  /in JSON at position|Unexpected (token|end)|Expected property name|JSON\.parse/,
  /\b(ENOENT|EACCES|EISDIR|ENOTDIR|EADDRINUSE)\b|, (open|scandir|read|listen) '|errno/,
  /\d+ [A-Z_]+: |RST_STREAM|Error deserializing|index out of range|invalid wire type|No connection established|Received message larger/,
  /url component|FST_ERR|    at /,
];

const expectOurs = (text: string): void => {
  for (const words of foreign) expect(text).not.toMatch(words);
};

let directory = '';
let server: GrpcServer;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-texts-'));
  writeFiles(directory, {
    'tab.yaml': 'a:\n\t- b\n',
    'open.json': '{"name": ',
    'wrong.yaml': '[{ protocol: tcp, sourceIP: 7, destIP: 10.0.0.1, destPort: 1 }]',
    'port.yaml': '[{ protocol: tcp, sourceIP: 1.1.1.1, destIP: 10.0.0.1, destPort: 70000 }]',
    'list.yaml': '[7]',
    'alias.yaml': '*a',
    'objects/bad.yaml': 'kind: Service\nmetadata: {name: a}\nmetadata: {name: b}\n',
    'objects/bad.json': '{"kind": "Service", }',
    'node.yaml': 'name: n\n',
    'empty/readme.txt': 'no object',
  });
  server = new GrpcServer({
    view: new FakeView(),
    reload: () => ({ hooks: 0, milliseconds: 0 }),
    handover,
    socketPath: join(directory, 's.sock'),
  });
  await server.start();
});
afterAll(async () => {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function sluice(line: string, env: Record<string, string> = {}): Promise<{ exitCode: number; err: string }> {
  let err = '';
  const never = (): Promise<never> => Promise.reject(new TypeError("Cannot read properties of undefined (reading 'x')"));
  const exitCode = await run(line.replaceAll('DIR', directory).split(' '), {
    ...{ env, out: () => undefined, err: (text: string) => (err += text), preflight: never, uninstall: never },
    explain: async (options) => (await import('../../../daemon/cli/explain.ts')).runExplain(options),
    plan: async (options) => (await import('../../../daemon/cli/plan.ts')).runPlan(options),
  });
  return { exitCode, err: err.replaceAll(directory, 'DIR') };
}

describe('the command sluice', () => {
  const packet = '1.1.1.1 10.0.0.1:80';
  test.for<{ line: string; code: number; want: string }>([
    { line: 'status --jsn', code: 2, want: '--jsn is not a flag; sluice status --help lists the flags' },
    {
      line: 'plan --objects x --nodes x',
      code: 2,
      want: '--nodes is not a flag (did you mean --node?); sluice plan --help lists the flags',
    },
    { line: 'statuz', code: 2, want: '"statuz" is not a command (did you mean status?); sluice --help lists the commands' },
    { line: 'service lst', code: 2, want: '"lst" is not a command (did you mean list?); sluice service --help lists the commands' },
    { line: 'status --socket', code: 2, want: '--socket requires a value: --socket PATH; sluice status --help lists the flags' },
    { line: 'plan', code: 2, want: '--objects DIR is required; sluice plan --help lists the flags' },
    { line: 'status a b', code: 2, want: '"a, b" is not expected; sluice status --help lists the arguments' },
    { line: 'service list -o xml', code: 2, want: '--output must be table, wide or json, is "xml"' },
    { line: `explain tcp ${packet} --from x`, code: 2, want: '--from must be pod, node or external, is "x"' },
    { line: `explain icmp ${packet}`, code: 2, want: 'the packet.protocol: must be tcp, udp or sctp, is "ICMP"' },
    { line: 'explain --flows DIR/none.yaml', code: 3, want: 'cannot read the --flows file DIR/none.yaml: no such file or directory' },
    { line: 'explain --flows DIR', code: 3, want: 'cannot read the --flows file DIR: the path is a directory, not a regular file' },
    {
      line: 'explain --flows DIR/tab.yaml',
      code: 3,
      want: 'the --flows file DIR/tab.yaml is neither YAML nor JSON: a tab is used for indentation: use spaces',
    },
    {
      line: 'explain --flows DIR/alias.yaml',
      code: 3,
      want: 'the --flows file DIR/alias.yaml is neither YAML nor JSON: an alias has no anchor, or the aliases expand to too many values',
    },
    { line: 'explain --flows DIR/wrong.yaml', code: 2, want: 'DIR/wrong.yaml[0].sourceIP: must be a string, is 7' },
    { line: 'explain --flows DIR/port.yaml', code: 2, want: 'DIR/port.yaml[0].destPort: must be 65535 or less, is 70000' },
    { line: 'explain --flows DIR/list.yaml', code: 2, want: 'DIR/list.yaml[0]: must be an object, is 7' },
    {
      line: 'plan --objects DIR/none --node DIR/node.yaml',
      code: 3,
      want: 'cannot read the --objects directory DIR/none: no such file or directory',
    },
    {
      line: 'plan --objects DIR/node.yaml --node DIR/node.yaml',
      code: 3,
      want: 'cannot read the --objects directory DIR/node.yaml: not a directory',
    },
    {
      line: 'plan --objects DIR/objects --node DIR/none.yaml',
      code: 3,
      want: 'cannot read the --node file DIR/none.yaml: no such file or directory',
    },
    {
      line: 'plan --objects DIR/objects --node DIR/tab.yaml',
      code: 3,
      want: 'DIR/tab.yaml: node file: must be JSON or YAML: a tab is used for indentation: use spaces',
    },
    {
      line: 'uninstall',
      code: 1,
      want: 'unexpected error (TypeError): this is a defect of Sluice, please report it',
    },
  ])('the error of "sluice $line" is worded by Sluice', async ({ line, code, want }) => {
    const { exitCode, err } = await sluice(line);
    expectOurs(err);
    expect({ exitCode, err: err.replace(/ at daemon[^)]*\)/, ')') }).toEqual({ exitCode: code, err: `sluice: ${want}\n` });
  });

  test('plan names each file that cannot be parsed', async () => {
    const { exitCode, err } = await sluice('plan --objects DIR/objects --node DIR/node.yaml --socket /nonexistent');
    expectOurs(err);
    expect({ exitCode, err: err.split('\n') }).toEqual({
      exitCode: 3,
      err: [
        'sluice: bad.json:1: not valid JSON: "}" is in the wrong place',
        'sluice: bad.yaml:3: Service default/b: not valid YAML: a mapping contains the same key twice',
        'sluice: the plan is incomplete: 2 problems in DIR/objects, see above',
        '',
      ],
    });
  });

  test('a directory without objects is reported as invalid input', async () => {
    const { exitCode, err } = await sluice('plan --objects DIR/empty --node DIR/node.yaml --socket /nonexistent');
    expectOurs(err);
    expect(exitCode).toBe(3);
    expect(err).toContain('contains no *.yaml, *.yml or *.json file');
  });

  test('a server that speaks HTTP/2 but not gRPC is reported as a daemon that failed to respond', async () => {
    const other = createServer((_request, response) => response.writeHead(500).end('no'));
    const path = join(directory, 'other.sock');
    await new Promise<void>((resolve) => void other.listen(path, () => resolve()));
    const { exitCode, err } = await sluice('status --socket DIR/other.sock --timeout 2s');
    other.close();
    expectOurs(err);
    expect([exitCode, err]).toEqual([1, expect.stringMatching(/^sluice: the daemon at DIR\/other\.sock failed to respond \([A-Z]+\): /)]);
  });
});

describe('the settings of sluiced', () => {
  const messageFor = (argv: string[], file = ''): string => {
    try {
      parseConfig(argv, {}, () => file);
    } catch (error) {
      return failureText(error);
    }
    return '';
  };
  test.for([
    { argv: ['--nod', 'x'], want: '--nod is not a flag (did you mean --node?); sluiced --help lists the flags' },
    { argv: ['--node'], want: '--node requires a value: --node NAME; sluiced --help lists the flags' },
    { argv: ['x'], want: '"x" is not a flag; sluiced --help lists the flags' },
    { argv: ['--config', '/s.yaml'], file: 'a: b: c\n', want: '/s.yaml line 1: a mapping begins in the line of another key' },
  ])('the error of the flags $argv is worded by Sluice', ({ argv, file, want }) => {
    const message = messageFor(argv, file);
    expectOurs(message);
    expect(message).toBe(want);
  });
});

describe('texts that are not YAML or JSON', () => {
  const yaml = [
    'a: [',
    'a: "x',
    'a: b: c',
    '\t- a',
    'a: *x',
    'a: &x &y 1',
    '%Z\n---\na',
    'a: "\\q"',
    '? [a]\n: b\n- c',
    '- a\nb: c',
    '@a',
    'a: !!int x',
  ];
  test.for(yaml)('the error of YAML %j is worded by Sluice', async (text) => {
    const warnings: string[] = [];
    const note = (warning: Error): number => warnings.push(warning.message);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    for (const each of readYaml(text)) if ('reason' in each) expectOurs(each.reason);
    try {
      parseNodeFile(text);
    } catch (error) {
      expectOurs(failureText(error));
    }
    // Node.js emits the warnings of the YAML parser one turn of the event loop later, and would print them on stderr.
    await new Promise((resolve) => setImmediate(resolve));
    expect(warnings).toEqual([]);
  });

  test.for(['{', '{"a"', '{"a":}', '[1,]', '{"a":1}x', '"\u0001"', '{"a": tru}', '{"a":"x'])(
    'the error of JSON %j is worded by Sluice',
    (text) => {
      const result = readJson(text);
      expect('reason' in result && result.reason).toMatch(/^not valid JSON: /);
      if ('reason' in result) expectOurs(result.reason);
    },
  );

  test('an unknown error gets a reason that is worded by Sluice', () => {
    for (const error of [new RangeError('Maximum call stack size exceeded'), new Error('odd'), undefined, 7]) {
      expect(yamlReason(error)).not.toMatch(/call stack|odd/);
      expect(jsonReason('{', error)).toBe('the text ends too early');
      expect(systemReason(error)).not.toMatch(/call stack|odd/);
    }
  });
});

describe('the API', () => {
  const ask = (path: string, bytes: Buffer): Promise<ServiceError> => {
    const same = (value: Buffer): Buffer => value;
    const method = { path, requestStream: false, responseStream: false, requestSerialize: same, requestDeserialize: same };
    const Client = makeGenericClientConstructor({ call: { ...method, responseSerialize: same, responseDeserialize: same } }, 'x');
    const client = new Client(`unix:${join(directory, 's.sock')}`, credentials.createInsecure());
    return new Promise((resolve) => {
      const call = client['call'] as (request: Buffer, done: (error: ServiceError) => void) => void;
      call.call(client, bytes, (error) => {
        client.close();
        resolve(error);
      });
    });
  };

  test.for(['/sluice.v1.Sluice/Explain', '/sluice.v1.Sluice/Status', '/sluice.v1.Admin/Reload'])(
    'if a request to %s is not a protobuf message, the error is worded by Sluice',
    async (path) => {
      const { code, details } = await ask(path, Buffer.from([0x0a, 0xff, 0x01]));
      expect({ code, details }).toEqual({ code: 3, details: 'the request is not a message of the type that this call expects' });
    },
  );

  const makeHttp = () => {
    const page = () => Promise.resolve({ contentType: 'text/plain', body: Buffer.from('') });
    return buildHttp({ view: new FakeView(), page, servers: new HttpServers(), clock: new FakeClock() });
  };

  test('if the HTTP library rejects a request, the response is worded by Sluice', async () => {
    const http = makeHttp();
    const { statusCode, body } = await http.inject({ method: 'GET', url: '/%c0' });
    expectOurs(body);
    expect([statusCode, JSON.parse(body)]).toEqual([
      400,
      expect.objectContaining({ detail: expect.stringMatching(/^the request is not valid/) as string }),
    ]);
    await http.close();
  });

  test('the error of an HTTP address in use names the address', async () => {
    const [one, two] = [makeHttp(), makeHttp()];
    const port = await listenHttp(one, { address: '127.0.0.1', port: 0 });
    await expect(listenHttp(two, { address: '127.0.0.1', port })).rejects.toThrow(
      `cannot serve HTTP on 127.0.0.1:${port}: address already in use: set another address`,
    );
    await Promise.all([one.close(), two.close()]);
  });
});
