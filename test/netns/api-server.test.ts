// SPDX-License-Identifier: Apache-2.0
// A Service claims the addresses of the API server, and so tries to take over the agent's own connection to it. The API server is a
// double with two addresses behind the router. The agent must keep its connection, also over a fail-over and a restart, and also when
// the maps already contain the frontend.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { apiAddresses, Lab } from '../support/lab/lab.ts';
import { Daemon, service, slices } from '../support/lab/daemon.ts';
import { Client, Server } from '../support/lab/peers.ts';
import type { LabProcess } from '../support/lab/process.ts';
import { sh } from '../support/lab/shell.ts';

const root = join(import.meta.dirname, '../..');
const API_PORT = 6443;
const first = apiAddresses.IPv4;
const second = '10.0.9.2';
const servers = [first, second].map((address) => `https://${address}:${API_PORT}`).join(',');

let lab: Lab;
let double: LabProcess;
let kubeconfig: string;
let doublePort: string;
let relays: readonly LabProcess[];

const put = (...objects: object[]): Promise<string> => double.ask(JSON.stringify({ put: objects }));

/** A Service of a tenant that claims both addresses of the API server, at its port and at port 80. Its backend is pod 1. */
const tenant = (extra: object = {}): object[] => {
  const ports = [
    { name: 'api', port: API_PORT, protocol: 'TCP' },
    { name: 'web', port: 80, protocol: 'TCP' },
  ];
  const [slice] = slices('tenant', [1]);
  return [
    service('tenant', { IPv4: '10.96.0.66', IPv6: 'fd00:96::66' }, { spec: { ports, externalIPs: [first, second], ...extra } }),
    { ...slice, ports: ports.map(({ name }) => ({ name, port: 8080, protocol: 'TCP' })) },
  ];
};

beforeEach(async () => {
  lab = new Lab();
  for (const number of [1, 9]) lab.addPod(number);
  lab.addApiServer();
  lab.ip('api', 'address', 'add', `${second}/24`, 'dev', 'eth0');
  await Server.start(lab, { netns: 'pod1', name: 'pod1' });
  kubeconfig = join(lab.directory, 'kubeconfig');
  double = lab.start('api', [process.execPath, join(root, 'test/stress/double.ts'), kubeconfig]);
  await double.line((line) => line === 'ready');
  const config = JSON.parse(readFileSync(kubeconfig, 'utf8')) as { clusters: { cluster: { server: string } }[] };
  const cluster = config.clusters[0]?.cluster ?? { server: '' };
  doublePort = new URL(cluster.server).port;
  // The certificate of the double is for localhost.
  writeFileSync(
    kubeconfig,
    JSON.stringify({ ...config, clusters: [{ name: 'double', cluster: { ...cluster, 'tls-server-name': 'localhost' } }] }),
  );
  relays = [first, second].map((address) =>
    lab.start('api', [process.execPath, join(root, 'test/support/lab/relay.ts'), address, String(API_PORT), doublePort]),
  );
  await Promise.all(relays.map((relay) => relay.ask('go')));
});

afterEach(() => lab.close());

const agent = (): Daemon => new Daemon(lab, 'node-a', ['--kubeconfig', kubeconfig, '--api-server', servers]);

/** Adds a Service, and waits until the agent has it in the kernel. The agent can learn of it only from the API server. */
async function learns(daemon: Daemon, name: string, address: number): Promise<void> {
  await put(service(name, { IPv4: `10.96.0.${address}`, IPv6: `fd00:96::${address}` }), ...slices(name, [1]));
  await daemon.settled((listed) => listed.some(({ key }) => key.startsWith(`default/${name}:`)));
}

const frontendsOf = (daemon: Daemon, name: string): string[] => {
  const listed = JSON.parse(daemon.cli('service', 'list', '-o', 'json')) as {
    services: { key: string; frontends?: { address: string; port: number }[] }[];
  };
  return listed.services
    .filter(({ key }) => key.startsWith(`default/${name}:`))
    .flatMap(({ frontends = [] }) => frontends.map(({ address, port }) => `${address}:${port}`))
    .filter((text) => text.startsWith('10.'))
    .sort();
};

const served = [`${first}:80`, `${second}:80`, '10.96.0.66:6443', '10.96.0.66:80'].sort();

describe.each([{ hasSocketLb: true }, { hasSocketLb: false }])('socket translation: $hasSocketLb', ({ hasSocketLb }) => {
  test('the agent keeps its connection when a Service claims the addresses of the API server, also after connection loss and fail-over', async () => {
    const daemon = agent();
    await daemon.start({ hasSocketLb, isInCgroup: hasSocketLb });
    await put(...tenant());
    await daemon.process?.line((line) => line.includes(`Service default/tenant spec.externalIPs: ${first}:${API_PORT}/TCP is not served`));
    await learns(daemon, 'one', 21);
    expect(frontendsOf(daemon, 'tenant')).toEqual(served);
    // Port 80 of the same address is served for all clients.
    const pod = await Client.start(lab, 'pod9');
    expect(await pod.ask({ protocol: 'tcp', address: first, port: 80, count: 20 })).toMatchObject({ failures: {}, answers: { pod1: 20 } });
    await Promise.all(relays.map((relay) => relay.ask('cut')));
    await learns(daemon, 'two', 22);
    await relays[0]?.ask('refuse');
    await learns(daemon, 'three', 23);
    await relays[0]?.ask('go');
    await relays[1]?.ask('refuse');
    await learns(daemon, 'four', 24);
    const status = lab.run('node', 'sh', '-c', `"$0" daemon/cli/main.ts --socket '${daemon.socket}' status || true`, process.execPath);
    expect(status).toMatch(/^Refused: +Warning +2 entries would take over the connection to the API server$/m);
    expect(status).toContain(`Service default/tenant spec.externalIPs: ${second}:${API_PORT}/TCP is not served`);
  });

  test('an agent that finds the frontend in the pinned maps withdraws it and reaches the API server', async () => {
    // An agent that reads a directory knows no API server, so it serves the addresses.
    const before = new Daemon(lab);
    before.write('tenant.yaml', ...tenant());
    await before.start({ hasSocketLb, isInCgroup: hasSocketLb });
    const probe = await Client.start(lab, 'pod9');
    expect(await probe.ask({ protocol: 'tcp', address: first, port: API_PORT, count: 5 })).toMatchObject({ answers: { pod1: 5 } });
    await before.process?.kill('SIGKILL');
    await put(...tenant());
    const daemon = agent();
    await daemon.start({ hasSocketLb, isInCgroup: hasSocketLb });
    await learns(daemon, 'one', 21);
    expect(frontendsOf(daemon, 'tenant')).toEqual(served);
    await daemon.process?.kill('SIGKILL');
    const again = agent();
    await again.start({ hasSocketLb, isInCgroup: hasSocketLb });
    await learns(again, 'two', 22);
  });

  test('an agent that connects to the ClusterIP of the API server keeps it when a Service claims the addresses behind it', async () => {
    const ports = [{ name: 'https', port: 443, protocol: 'TCP' }];
    const [slice] = slices('kubernetes', []);
    const endpoints = [first, second].map((address) => ({ addresses: [address], conditions: { ready: true } }));
    await put(service('kubernetes', { IPv4: '10.96.0.1', IPv6: 'fd00:96::1' }, { spec: { ports } }), {
      ...slice,
      ...{ ports: [{ name: 'https', port: API_PORT, protocol: 'TCP' }], endpoints },
    });
    const start = { hasSocketLb, isInCgroup: hasSocketLb };
    // The first agent serves the ClusterIP and does not protect its endpoints, because it does not connect to the ClusterIP.
    const direct = new Daemon(lab, 'node-a', ['--kubeconfig', kubeconfig, '--api-server', `https://[${apiAddresses.IPv6}]:6444`]);
    const relay = lab.start('api', [process.execPath, join(root, 'test/support/lab/relay.ts'), apiAddresses.IPv6, '6444', doublePort]);
    await relay.ask('go');
    await put(...tenant());
    await direct.start(start);
    await direct.settled((listed) =>
      ['kubernetes', 'tenant'].every((name) => listed.some(({ key }) => key.startsWith(`default/${name}:`))),
    );
    expect(frontendsOf(direct, 'tenant')).toContain(`${first}:${API_PORT}`);
    await direct.process?.kill('SIGKILL');
    const daemon = new Daemon(lab, 'node-a', ['--kubeconfig', kubeconfig, '--api-server', 'https://10.96.0.1']);
    await daemon.start(start);
    await learns(daemon, 'one', 21);
    expect(frontendsOf(daemon, 'tenant')).toEqual(served);
    expect(frontendsOf(daemon, 'kubernetes')).toEqual(['10.96.0.1:443']);
    await Promise.all(relays.map((each) => each.ask('cut')));
    await learns(daemon, 'two', 22);
  });

  test('an agent whose pinned Service CIDR contains the API server reaches it after a restart', async () => {
    const before = new Daemon(lab);
    mkdirSync(before.source, { recursive: true });
    await before.start({ hasSocketLb, isInCgroup: hasSocketLb, extra: ['--service-cidr', '10.0.9.0/24'] });
    await before.process?.kill('SIGKILL');
    const daemon = agent();
    await daemon.start({ hasSocketLb, isInCgroup: hasSocketLb, extra: ['--service-cidr', '10.0.9.0/24'] });
    await learns(daemon, 'one', 21);
    const status = lab.run('node', 'sh', '-c', `"$0" daemon/cli/main.ts --socket '${daemon.socket}' status || true`, process.execPath);
    expect(status).toMatch(/the Service CIDR 10\.0\.9\.0\/24 contains the address of the API server/);
    expect(sh('bpftool', 'map', 'dump', 'pinned', join(lab.bpffs, 'sluice/maps/lb4_ranges'))).not.toContain('0a 00 09 00');
  });
});
