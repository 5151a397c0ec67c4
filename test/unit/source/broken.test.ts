// SPDX-License-Identifier: Apache-2.0
// Invalid files. Each problem names the file, the line, the object and the field. Valid objects are used. A row is deleted only if
// its object was certainly removed from the directory.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmdirSync, symlinkSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Files, serviceYaml, sliceYaml, startIn, startWorld, temporaryDirectory, writeFiles } from './fixture.ts';

const valid = { 'valid.yaml': `${serviceYaml('valid')}---\n${sliceYaml('valid-1')}` };

describe('the first scan reports', () => {
  const cases: { name: string; files: Files; want: unknown[]; services?: string[]; slices?: string[]; isComplete: boolean }[] = [
    {
      name: 'invalid YAML',
      files: {
        'web.yaml': `${serviceYaml('a')}---\nkind: Service\nmetadata:\n  name: web\n  labels: [\nspec: 1\n---\n${serviceYaml('b')}`,
      },
      want: [expect.stringMatching(/^web\.yaml:14: Service default\/web: not valid YAML: /)],
      services: ['default/a', 'default/b'],
      isComplete: false,
    },
    {
      name: 'YAML with a duplicate key',
      files: { 'web.yaml': 'kind: Service\nmetadata:\n  name: web\nmetadata:\n  name: web\n' },
      want: ['web.yaml:4: Service default/web: not valid YAML: a mapping contains the same key twice'],
      isComplete: false,
    },
    {
      name: 'an alias without an anchor',
      files: { 'web.yaml': 'kind: Service\nmetadata: *nowhere\n' },
      want: ['web.yaml:1: not valid YAML: an alias has no anchor, or the aliases expand to too many values'],
      isComplete: false,
    },
    {
      name: 'invalid JSON',
      files: { 'web.json': '{\n  "kind": "Service",\n}\n' },
      want: [expect.stringMatching(/^web\.json:3: not valid JSON: /)],
      isComplete: false,
    },
    {
      name: 'truncated JSON',
      files: { 'web.json': '{\n  "kind":\n' },
      want: ['web.json:2: not valid JSON: the text ends too early'],
      isComplete: false,
    },
    { name: 'plain text', files: { 'web.yaml': 'hello\n' }, want: ['web.yaml:1: must be an object, is "hello"'], isComplete: false },
    {
      name: 'an object without a kind',
      files: { 'web.yaml': '# c\nmetadata: {name: web}\n' },
      want: ['web.yaml:2: web kind: must be a string, is missing'],
      isComplete: false,
    },
    {
      name: 'a list whose items are not a list',
      files: { 'web.yaml': 'kind: List\nitems: {}\n' },
      want: ['web.yaml:2: List items: must be a list'],
      isComplete: false,
    },
    {
      name: 'a known kind of another version',
      files: { 'web.yaml': 'apiVersion: v2\nkind: Service\nmetadata: {name: web, namespace: shop}\n' },
      want: ['web.yaml:1: Service shop/web apiVersion: must be v1, is "v2"'],
      isComplete: true,
    },
    {
      name: 'JSON with a duplicate key',
      files: { 'web.json': '{"kind": "Service",\n"metadata": {"name": "web"},\n"spec": {"ports": [{"port": 1, "p\\u006frt": 2}]}}' },
      want: ['web.json:3: Service default/web: not valid JSON: the key "port" occurs twice in an object'],
      isComplete: false,
    },
    {
      name: 'JSON that is nested too deeply',
      files: { 'web.json': `{"a":\n${'['.repeat(400_000)}` },
      want: ['web.json:2: not valid JSON: is nested more than 4000 levels deep'],
      isComplete: false,
    },
    ...(['[', '{', '{a: ', '- ', '? '] as const).map((nest) => ({
      name: `YAML that is nested too deeply by "${nest}"`,
      files: { 'web.yaml': `---\na: 1\n---\n${nest.repeat(400_000)}\n` },
      want: [expect.stringMatching(/^web\.yaml:2: .*kind: must be a string/), 'web.yaml:4: is nested more than 200 levels deep'],
      isComplete: false,
    })),
    {
      name: 'YAML whose aliases expand without limit',
      files: {
        'web.yaml': `a0: &a0 [x]\n${Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i}, `.repeat(9)}]\n`).join('')}`,
      },
      want: ['web.yaml:1: not valid YAML: an alias has no anchor, or the aliases expand to too many values'],
      isComplete: false,
    },
    {
      name: 'a YAML document that is too large',
      files: { 'web.yaml': `kind: Service\nx: ${'x'.repeat(2 * 2 ** 20)}\n---\n${serviceYaml('small')}` },
      want: ['web.yaml:1: a YAML document may have at most 2 MiB: separate the objects by "---" lines, or use JSON'],
      services: ['default/small'],
      isComplete: false,
    },
    {
      name: 'more problems in a file than are listed',
      files: {
        'web.yaml': Array.from({ length: 150 }, (_, i) => `kind: Service\nmetadata: {name: s${i}}\nspec: {clusterIP: x}\n`).join('---\n'),
      },
      want: [
        'web.yaml: has 50 more problems',
        ...Array.from(
          { length: 100 },
          (_, i) => expect.stringMatching(`^web\\.yaml:${4 * i + 3}: Service default/s${i} spec.clusterIP: `) as unknown,
        ),
      ],
      isComplete: false,
    },
    {
      name: 'a Service with an invalid IP',
      files: { 'web.yaml': serviceYaml('web', '10.96.0.300') },
      want: ['web.yaml:6: Service default/web spec.clusterIP: must be an IP address, is "10.96.0.300"'],
      isComplete: false,
    },
    {
      name: 'Service ports 0 and 70000',
      files: { 'a.yaml': serviceYaml('a', '10.0.0.1', 0), 'b.yaml': `${serviceYaml('ok')}---\n${serviceYaml('b', '10.0.0.1', 70000)}` },
      want: [
        'a.yaml:8: Service default/a spec.ports[0].port: must be 1..65535, is 0',
        'b.yaml:17: Service default/b spec.ports[0].port: must be 1..65535, is 70000',
      ],
      services: ['default/ok'],
      isComplete: false,
    },
    {
      name: 'duplicate port names',
      files: { 'web.yaml': `${serviceYaml('web')}    name: a\n  - port: 81\n    name: a\n` },
      want: ['web.yaml:11: Service default/web spec.ports[1].name: must be unique, "a" is also the name of spec.ports[0]'],
      isComplete: false,
    },
    {
      name: 'an EndpointSlice with no ports',
      files: { 'web.yaml': sliceYaml('web-1', '  []') },
      want: ['web.yaml:8: EndpointSlice default/web-1 ports: is empty: the slice is ignored'],
      isComplete: true,
    },
    {
      name: 'EndpointSlice ports 0 and 70000',
      files: { 'web.yaml': sliceYaml('web-1', '- port: 0\n- name: b\n  port: 70000\n- name: c\n  port: 8080') },
      want: [
        'web.yaml:9: EndpointSlice default/web-1 ports[0].port: must be 1..65535, is 0',
        'web.yaml:11: EndpointSlice default/web-1 ports[1].port: must be 1..65535, is 70000',
      ],
      slices: ['default/web-1'],
      isComplete: true,
    },
    {
      name: 'an endpoint of the other family',
      files: { 'web.yaml': sliceYaml('web-1', '- port: 80', ['10.0.0.1', '"fd00::1"']) },
      want: ['web.yaml:12: EndpointSlice default/web-1 endpoints[1].addresses[0]: must be an IPv4 address, is "fd00::1"'],
      slices: ['default/web-1'],
      isComplete: true,
    },
    {
      name: 'an EndpointSlice without address type',
      files: { 'web.yaml': sliceYaml('web-1').replace('addressType: IPv4\n', '') },
      want: ['web.yaml:1: EndpointSlice default/web-1 addressType: must be IPv4, IPv6 or FQDN, is missing'],
      isComplete: false,
    },
    {
      name: 'an invalid Node, which NodePorts depend on',
      files: { 'n.yaml': 'kind: Node\nmetadata:\n  name: n\n  labels:\n    zone: 1\n' },
      want: ['n.yaml:5: Node n metadata.labels.zone: must be a string, is 1'],
      isComplete: false,
    },
    {
      name: 'an item of a JSON list',
      files: {
        'web.json': JSON.stringify(
          {
            kind: 'List',
            items: [
              { kind: 'Service', metadata: { name: 'a' }, spec: { clusterIP: '10.0.0.1' } },
              { kind: 'Service', metadata: { name: 'b' }, spec: { clusterIP: 'x' } },
            ],
          },
          null,
          1,
        ),
      },
      want: ['web.json:19: Service default/b spec.clusterIP: must be an IP address, is "x"'],
      services: ['default/a'],
      isComplete: false,
    },
    {
      name: 'a label that is not a string',
      files: { 'web.yaml': sliceYaml('web-1').replace('service-name: web', 'service-name: 5') },
      want: ['web.yaml:6: EndpointSlice default/web-1 metadata.labels[kubernetes.io/service-name]: must be a string, is 5'],
      isComplete: false,
    },
    {
      name: 'duplicate names in one file and in another',
      files: {
        'b.yaml': `${serviceYaml('web', '10.0.0.1')}---\n${serviceYaml('web', '10.0.0.2')}`,
        'c.json': '{"kind":"Service","metadata":{"name":"web"},"spec":{"clusterIP":"10.0.0.3"}}',
      },
      want: [
        'b.yaml:10: Service default/web metadata.name: is already defined at b.yaml:1, this definition is ignored',
        'c.json:1: Service default/web metadata.name: is already defined at b.yaml:1, this definition is ignored',
      ],
      services: ['default/web'],
      isComplete: true,
    },
  ];

  test.for(cases)('the first scan reports $name', async ({ files, want, services = [], slices = [], isComplete }) => {
    const world = await startWorld({ ...valid, ...files });
    expect(world.messages).toEqual(want);
    expect(world.log.toSorted()).toEqual(world.messages.map((message) => `+ ${message}`).toSorted());
    expect(world.services).toEqual([...services, 'default/valid'].toSorted());
    expect(world.slices).toEqual(['default/valid-1', ...slices]);
    expect(world.source.isComplete).toBe(isComplete);
  });

  test('the valid parts of an invalid slice are used', async () => {
    const world = await startWorld({ 'web.yaml': sliceYaml('web-1', '- port: 0\n- name: c\n  port: 8080', ['nonsense', '10.0.0.2']) });
    expect(world.tables.slices.get('default/web-1')).toMatchObject({
      ports: [{ name: 'c', port: 8080 }],
      endpoints: [{ address: '10.0.0.2' }],
    });
  });
});

describe('an unreadable file', () => {
  const ways: { name: string; make: (path: string) => void; undo: (path: string) => void; want: RegExp }[] = [
    {
      name: 'a directory',
      make: mkdirSync,
      undo: rmdirSync,
      want: /^x\.yaml: cannot be read: the path is a directory, not a regular file$/,
    },
    {
      name: 'a link in a loop',
      make: (path) => symlinkSync('x.yaml', path),
      undo: unlinkSync,
      want: /^x\.yaml: cannot be read: too many symbolic links/,
    },
    {
      name: 'a link without a target',
      make: (path) => symlinkSync('nothing', path),
      undo: unlinkSync,
      want: /^x\.yaml: cannot be read: the target of the symbolic link does not exist$/,
    },
    {
      name: 'a link to a device',
      make: (path) => symlinkSync('/dev/null', path),
      undo: unlinkSync,
      want: /^x\.yaml: cannot be read: the path is a device, not a regular file$/,
    },
    {
      name: 'a named pipe',
      make: (path) => execFileSync('mkfifo', [path]),
      undo: unlinkSync,
      want: /^x\.yaml: cannot be read: the path is a named pipe, not a regular file$/,
    },
    {
      name: 'a link to a socket',
      make: (path) => {
        const socket = createServer().listen(`${path}.sock`);
        onTestFinished(() => void socket.close());
        symlinkSync(`${path}.sock`, path);
      },
      undo: unlinkSync,
      want: /^x\.yaml: cannot be read: (the path is a socket, not a regular file|the target of the symbolic link does not exist)$/,
    },
    {
      name: 'a file that is too large',
      make: (path) => {
        writeFileSync(path, '');
        truncateSync(path, 2 ** 40);
      },
      undo: unlinkSync,
      want: /^x\.yaml: cannot be read: the file is larger than 32 MiB$/,
    },
    {
      name: 'invalid UTF-8',
      make: (path) => writeFileSync(path, Uint8Array.of(0x61, 0xff)),
      undo: unlinkSync,
      want: /^x\.yaml: cannot be read: the file is not UTF-8 text$/,
    },
    {
      name: 'a file without permission',
      make: (path) => {
        writeFileSync(path, serviceYaml('x'));
        chmodSync(path, 0);
        if (process.geteuid?.() !== 0) return;
        // Root can read every file, so the test continues as another user. This user must be able to list the directory.
        chmodSync(dirname(path), 0o755);
        process.seteuid?.(65534);
        onTestFinished(() => process.seteuid?.(0));
      },
      undo: (path) => {
        if (process.getuid?.() === 0) process.seteuid?.(0);
        unlinkSync(path);
      },
      want: /^x\.yaml: cannot be read: permission denied$/,
    },
  ];

  for (const { name, make, undo, want } of ways) {
    test(`an unreadable file that exists from the start is reported: ${name}`, async () => {
      const directory = temporaryDirectory();
      writeFiles(directory, valid);
      make(join(directory, 'x.yaml'));
      const world = await startIn(directory);
      expect(world.messages).toEqual([expect.stringMatching(want)]);
      expect(world.services).toEqual(['default/valid']);
      expect(world.source.isComplete).toBe(false);
    });

    test(`an unreadable file that appears later is reported, and rows stay: ${name}`, async () => {
      const world = await startWorld({ ...valid, 'x.yaml': serviceYaml('x') });
      const path = join(world.directory, 'x.yaml');
      const { revision } = world;
      unlinkSync(path);
      make(path);
      await world.until(() => world.log.some((line) => want.test(line.slice(2))));
      await world.settle();
      expect(world.services).toEqual(['default/valid', 'default/x']);
      expect([world.revision, world.source.isComplete]).toEqual([revision, false]);
      undo(path);
      world.write({ 'x.yaml': serviceYaml('x', '10.96.0.9') });
      await world.until(() => world.tables.services.get('default/x')?.clusterIPs.IPv4 === '10.96.0.9');
      expect([world.source.isComplete, world.messages]).toEqual([true, []]);
    });
  }
});
