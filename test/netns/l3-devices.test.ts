// SPDX-License-Identifier: Apache-2.0
// Uplinks without a link-layer header, as WireGuard, IP in IP and tun devices are, with real sockets and without socket translation. The
// node reaches the other node through the TUN device tun0, and a client reaches the node through tun1. sluiced finds both devices. The
// sockets of the node reach VIPs through eth0 and through tun1, so that their packets change between devices with and without a header.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tcxPrograms } from '../../daemon/kernel/link.ts';
import { inNetns } from '../support/kernel.ts';
import { Cluster } from '../support/lab/cluster.ts';
import { service, slices } from '../support/lab/daemon.ts';
import { clientAddresses, podAddresses } from '../support/lab/lab.ts';
import { startTun } from '../support/lab/peers.ts';
import { sh } from '../support/lab/shell.ts';
import { timeExceeded, Witness } from '../support/lab/witness.ts';

const families = ['IPv4', 'IPv6'] as const;
type Family = (typeof families)[number];

/**
 * The addresses of the node and of the client, on tun0 and on tun1. The first IPv6 address of a subnet is not used, because it is the anycast
 * address of the routers of the subnet, to which Linux sends no ICMP error.
 */
const near = { IPv4: '10.244.1.0', IPv6: 'fd00:244:1::ffff' };
const far = { IPv4: '10.244.2.0', IPv6: 'fd00:244:2::ffff' };
const gate = { IPv4: '10.99.0.1', IPv6: 'fd00:99::1' };
const remote = { IPv4: '10.99.0.2', IPv6: 'fd00:99::2' };
const MTU = 1400;

/** VIPs that the node routes to eth0, and VIPs that it routes to tun1. */
const byEth0 = (n: number) => ({ IPv4: `10.96.3.${n}`, IPv6: `fd00:96::3:${n}` });
const byTun1 = (n: number) => ({ IPv4: `10.96.4.${n}`, IPv6: `fd00:96::4:${n}` });
const nodePort = (n: number, spec: object = {}): object =>
  service(`port-${n}`, byEth0(n), { nodePorts: { web: 30_000 + n, dns: 31_000 + n }, spec: { type: 'NodePort', ...spec } });

/** Services 1 to 3: a backend on this node, one on the other node, and one on this node that sees the client address. Service 9 has none. */
const backendOf: Readonly<Record<number, string>> = { 1: 'pod1', 2: 'pod101', 3: 'pod1' };

let cluster: Cluster;

function addDevice(netns: string, device: string, { own, peers }: { own: typeof near; peers: readonly string[] }): void {
  const { lab } = cluster;
  lab.ip(netns, 'address', 'add', `${own.IPv4}/32`, 'dev', device);
  lab.ip(netns, 'address', 'add', `${own.IPv6}/128`, 'dev', device, 'nodad');
  lab.ip(netns, 'link', 'set', device, 'mtu', String(MTU), 'up');
  for (const peer of peers) lab.ip(netns, peer.includes(':') ? '-6' : '-4', 'route', 'add', peer, 'dev', device);
}

beforeAll(async () => {
  cluster = await Cluster.start({
    ...{ pods: [1, 9, 101], servers: [1, 101], hasSocketLb: false, hasFoundDevices: true },
    extra: ['--node-port-addresses', 'all'],
    objects: [
      ...[nodePort(1), ...slices('port-1', [1])],
      ...[nodePort(2), ...slices('port-2', [101])],
      ...[nodePort(3, { externalTrafficPolicy: 'Local' }), ...slices('port-3', [1])],
      ...[service('tun-1', byTun1(1)), ...slices('tun-1', [1]), service('tun-2', byTun1(2)), ...slices('tun-2', [101])],
      ...[service('none-3', byEth0(9)), service('none-4', byTun1(9))],
    ],
  });
  const { lab } = cluster;
  const [node, other, client] = ['10.0.0.1', '10.0.1.1', '172.20.0.9'];
  await Promise.all([
    startTun(lab, 'node', { device: 'tun0', local: node, remote: other, port: 5555 }),
    startTun(lab, 'node-b', { device: 'tun0', local: other, remote: node, port: 5555 }),
    startTun(lab, 'node', { device: 'tun1', local: node, remote: client, port: 5556 }),
    startTun(lab, 'client', { device: 'tun1', local: client, remote: node, port: 5556 }),
  ]);
  addDevice('node', 'tun0', { own: near, peers: ['10.244.2.0/24', 'fd00:244:2::/64'] });
  addDevice('node-b', 'tun0', { own: far, peers: ['10.244.1.0/24', 'fd00:244:1::/64'] });
  addDevice('node', 'tun1', { own: gate, peers: [remote.IPv4, remote.IPv6, '10.96.4.0/24', 'fd00:96::4:0/112'] });
  addDevice('client', 'tun1', { own: remote, peers: [gate.IPv4, gate.IPv6, '10.96.0.0/16', 'fd00:96::/64'] });
  for (const netns of ['node', 'node-b']) {
    lab.sysctl(netns, 'net.ipv4.icmp_ratelimit', '0');
    lab.sysctl(netns, 'net.ipv6.icmp.ratelimit', '0');
  }
  const wanted = ['tun0 uplink', 'tun1 uplink'];
  for (const end = Date.now() + 60_000; !wanted.every((text) => statusDevices().some((device) => device.startsWith(text)));) {
    if (Date.now() > end) throw new Error(`the devices have no programs: ${statusDevices().join()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

afterAll(() => cluster.close());

/** The devices of `sluice status`: "eth0 uplink: default route". */
function statusDevices(): string[] {
  const { devices } = JSON.parse(cluster.daemon.cli('status', '-o', 'json')) as {
    devices: { name: string; role: string; reason: string }[];
  };
  return devices.map(({ name, role, reason }) => `${name} ${role.replace('DEVICE_ROLE_', '').toLowerCase()}: ${reason}`);
}

interface Way {
  readonly netns: string;
  readonly n: number;
  readonly address: string;
  readonly web: number;
  readonly dns: number;
  /** The source that the server sees; undefined if it is of no interest here. */
  readonly source?: string;
}

const cluster80 = { web: 80, dns: 53 };
const ports = (n: number): Pick<Way, 'web' | 'dns'> => ({ web: 30_000 + n, dns: 31_000 + n });

/** Every way from the client, a pod and the node, to the backends on both nodes. */
function ways(family: Family): Way[] {
  const pod = podAddresses(9)[family];
  const client = remote[family];
  const [vip, other, own] = [(n: number) => byEth0(n)[family], (n: number) => byTun1(n)[family], gate[family]];
  return [
    // The client is outside of the cluster, so that its packets to a ClusterIP are masqueraded too.
    ...[1, 3].map((n) => ({ netns: 'client', n, address: vip(n), ...cluster80 })),
    { netns: 'client', n: 2, address: vip(2), ...cluster80, source: near[family] },
    { netns: 'client', n: 1, address: own, ...ports(1) },
    { netns: 'client', n: 2, address: own, ...ports(2), source: near[family] },
    { netns: 'client', n: 3, address: own, ...ports(3), source: client },
    { netns: 'pod9', n: 2, address: vip(2), ...cluster80, source: pod },
    { netns: 'pod9', n: 2, address: own, ...ports(2), source: near[family] },
    { netns: 'pod9', n: 1, address: other(1), ...cluster80, source: pod },
    ...[vip(2), other(2)].map((address) => ({ netns: 'node', n: 2, address, ...cluster80, source: near[family] })),
    { netns: 'node', n: 1, address: other(1), ...cluster80 },
  ];
}

async function expectAnswers(way: Way, protocol: 'tcp' | 'udp', { count = 4, size = 5 } = {}): Promise<void> {
  const { netns, n, address, dns, web, source } = way;
  const server = backendOf[n] ?? '';
  await cluster.seen();
  const result = await cluster.ask(netns, { protocol, address, port: protocol === 'tcp' ? web : dns, count, size });
  const { answers, failures, peers } = result;
  const port = protocol === 'tcp' ? web : dns;
  expect({ answers, failures, peers }, `${protocol} from ${netns} to Service ${n} at ${address}`).toEqual({
    ...{ answers: { [server]: count }, failures: {}, peers: { [`${address}:${port}`]: count } },
  });
  const seen = (await cluster.seen())[server] ?? {};
  if (source !== undefined) expect(Object.keys(seen), `${protocol} from ${netns} to Service ${n} at ${address}`).toEqual([source]);
}

const tooBig = {
  IPv4: 'icmp type destination-unreachable icmp code frag-needed',
  IPv6: 'icmpv6 type packet-too-big',
};

describe.each(families.map((family) => ({ family })))('$family', ({ family }) => {
  test('TCP connections and datagrams are answered, and the far server sees the address of the tunnel for what is masqueraded', async () => {
    for (const way of ways(family)) for (const protocol of ['tcp', 'udp'] as const) await expectAnswers(way, protocol);
  });

  test('200 kB over TCP and datagrams of 4,000 bytes are delivered in both directions', async () => {
    const witness = new Witness(cluster.lab, 'pod9', { tooBig: tooBig[family] });
    for (const way of ways(family)) {
      await expectAnswers(way, 'tcp', { count: 2, size: 200_000 });
      // An IPv6 sender learns the MTU behind its own device from the answer to its first large datagrams, which are lost.
      for (let attempt = 0; attempt < 3; attempt += 1)
        await cluster.ask(way.netns, { protocol: 'udp', address: way.address, port: way.dns, count: 1, size: 4000, timeoutMs: 200 });
      await expectAnswers(way, 'udp', { size: 4000 });
    }
    // The packets of pods are larger than the MTU of the tunnel.
    expect(witness.take()['tooBig']).toBeGreaterThan(0);
    witness.close();
  });

  test('an ICMP error of a hop reaches the sender, with the frontend in the packet that it quotes', async () => {
    for (const way of ways(family).filter(({ netns }) => netns !== 'node')) {
      const { netns, n, address, web, dns } = way;
      // The source of an error behind the translation is the frontend, as with netfilter.
      const rules = { byTcp: timeExceeded(address, address, web), byUdp: timeExceeded(address, address, dns) };
      const witness = new Witness(cluster.lab, netns, rules);
      for (let ttl = 1; ttl <= (n === 2 ? 2 : 1); ttl += 1) {
        for (const protocol of ['tcp', 'udp'] as const) {
          const port = protocol === 'tcp' ? web : dns;
          witness.expire(ttl, port);
          await cluster.ask(netns, { protocol, address, port, count: 1, timeoutMs: 100 });
          expect(Object.keys(await witness.heard()), `${protocol} from ${netns} to ${address}, TTL ${ttl}`).toEqual([
            protocol === 'tcp' ? 'byTcp' : 'byUdp',
          ]);
        }
      }
      witness.close();
    }
  });

  test.for([
    { netns: 'client', address: byEth0(9)[family] },
    { netns: 'node', address: byTun1(9)[family] },
    { netns: 'pod9', address: byTun1(9)[family] },
  ])('connections and datagrams of $netns to a Service without endpoints are refused', async ({ netns, address }) => {
    const refused = { answers: {}, failures: { ECONNREFUSED: 3 } };
    expect(await cluster.ask(netns, { protocol: 'tcp', address, port: 80, count: 3 })).toMatchObject(refused);
    expect(await cluster.ask(netns, { protocol: 'udp', isConnected: true, address, port: 53, count: 3 })).toMatchObject(refused);
  });

  test('explain names the programs of such a device, and says what they do', () => {
    const explain = (...args: readonly string[]): string => cluster.daemon.cli('explain', 'tcp', ...args);
    const end = (address: string, port: number): string => (family === 'IPv4' ? `${address}:${port}` : `[${address}]:${port}`);
    const backend = end(podAddresses(101)[family], 8080);
    const fromClient = explain(end(remote[family], 40_001), end(gate[family], 30_002));
    expect(fromClient).toContain('tc_l3_in processes a packet from an external source');
    expect(fromClient).toContain(backend);
    expect(explain(end(remote[family], 40_001), end(gate[family], 30_002), '--iface', 'tun1')).toEqual(fromClient);
    const fromNode = explain(end(gate[family], 40_001), end(byTun1(2)[family], 80));
    expect(fromNode).toContain('tc_l3_out processes a packet from the node');
    expect(fromNode).toContain(backend);
    expect(explain(end(nodeAddress(family), 40_001), end(byEth0(2)[family], 80))).toContain(
      'tc_uplink_out processes a packet from the node',
    );
    expect(explain(end(gate[family], 40_001), end(byTun1(9)[family], 80))).toContain('REJECT');
  });
});

const nodeAddress = (family: Family): string => ({ IPv4: '10.0.0.1', IPv6: 'fd00:10::1' })[family];

test.for(families)('a reply that a rule sends to such a device leaves by the device that its VIP is routed to: %s', async (family) => {
  const { lab } = cluster;
  const flag = family === 'IPv4' ? '-4' : '-6';
  const backend = podAddresses(1)[family];
  // Strict source validation would drop the request, since its reply leaves by another device.
  lab.sysctl('node', 'net.ipv4.conf.all.rp_filter', '2');
  lab.ip('node', flag, 'route', 'add', clientAddresses[family], 'dev', 'tun1', 'table', '100');
  lab.ip('node', flag, 'rule', 'add', 'from', backend, 'lookup', '100');
  const to = { protocol: 'tcp', address: nodeAddress(family), port: 30_003 } as const;
  // The agent learns of the rule from a netlink event.
  for (const end = Date.now() + 60_000; ;) {
    const { answers } = await cluster.ask('client', { ...to, count: 1, timeoutMs: 200 });
    if (answers['pod1'] === 1) break;
    if (Date.now() > end) throw new Error('no answer');
  }
  const way = { netns: 'client', n: 3, address: to.address, ...ports(3) };
  for (const protocol of ['tcp', 'udp'] as const) await expectAnswers(way, protocol, { size: protocol === 'tcp' ? 200_000 : 1000 });
  lab.ip('node', flag, 'rule', 'delete', 'from', backend, 'lookup', '100');
  lab.ip('node', flag, 'route', 'flush', 'table', '100');
  lab.sysctl('node', 'net.ipv4.conf.all.rp_filter', '1');
});

test('no packet was dropped for a reason of the programs themselves', async () => {
  const reasons = new Set((await Promise.all(cluster.daemons.map((daemon) => cluster.drops(daemon)))).flat());
  for (const reason of ['WRITE', 'MALFORMED', 'NO_ROUTE', 'NO_NODE_ADDRESS', 'FLOW_FULL', 'NODE_TO_SELF'])
    expect(reasons).not.toContain(reason);
});

/** The TCX programs of a device of the node, with their ids. */
function programsOn(device: string): { id: number; name: string }[] {
  const [link] = JSON.parse(cluster.lab.ip('node', '-j', 'link', 'show', 'dev', device)) as { ifindex: number }[];
  const ids = inNetns(`/run/netns/${cluster.lab.netns('node')}`, () =>
    [true, false].flatMap((isIngress) => [...tcxPrograms(link?.ifindex ?? 0, isIngress)]),
  );
  return ids.map((id) => ({ id, name: (JSON.parse(sh('bpftool', '-j', 'prog', 'show', 'id', String(id))) as { name: string }).name }));
}

const names = (device: string): string[] => programsOn(device).map(({ name }) => name);

test('status and preflight list the devices as uplinks, and the kernel has the programs for packets without a header', () => {
  expect(statusDevices()).toEqual(
    expect.arrayContaining(['eth0 uplink: default route', 'tun0 uplink: route without a gateway', 'tun1 uplink: route without a gateway']),
  );
  expect(names('tun1')).toEqual(['tc_l3_in', 'tc_l3_out']);
  expect(names('eth0')).toEqual(['tc_uplink_in', 'tc_uplink_out']);
  const command = [process.execPath, 'daemon/cli/main.ts', 'preflight', ...cluster.daemon.flags(false, true), '-o', 'json'];
  const { checks } = JSON.parse(cluster.lab.run('node', ...command)) as { checks: { name: string; state: string; message: string }[] };
  const found = checks.find(({ name }) => name === 'devices');
  expect(found?.state).toBe('ok');
  expect(found?.message).toMatch(/^uplinks: [^;]*tun0 \(route without a gateway\)[^;]*; pod interfaces: lxc1, lxc9; without programs: lo /);
  expect(checks.find(({ name }) => name === 'order on tun1')).toMatchObject({ state: 'skipped' });
});

test('a reload replaces the programs of the devices, and uninstall removes them', async () => {
  const [way] = ways('IPv4').filter(({ netns, n }) => netns === 'client' && n === 2);
  if (way === undefined) throw new Error('there is no such way');
  const before = programsOn('tun1');
  cluster.daemon.cli('reload');
  const after = programsOn('tun1');
  expect(after.map(({ name }) => name)).toEqual(['tc_l3_in', 'tc_l3_out']);
  expect(after.filter(({ id }) => before.some((each) => each.id === id))).toEqual([]);
  await expectAnswers(way, 'tcp');

  // The programs stay when the daemon ends, and the next daemon takes them over.
  await cluster.daemon.process?.kill();
  await expectAnswers(way, 'tcp');
  await cluster.startDaemon(cluster.daemon);
  expect(names('tun1')).toEqual(['tc_l3_in', 'tc_l3_out']);
  await expectAnswers(way, 'tcp');

  await cluster.daemon.process?.kill();
  const pins = join(cluster.lab.bpffs, 'sluice');
  cluster.lab.run('node', ...cluster.daemon.command('uninstall', '--pin-path', pins));
  expect([names('tun0'), names('tun1'), names('eth0')]).toEqual([[], [], []]);
  expect(existsSync(pins)).toBe(false);
});
