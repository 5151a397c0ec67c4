// SPDX-License-Identifier: Apache-2.0
// With the default settings, sluiced finds the pod interfaces and the uplinks of a node by itself, and judges them again when devices,
// routes and addresses change. Traffic of other pods must not notice. Which programs are on a device is read from the kernel.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { tcxPrograms } from '../../daemon/kernel/link.ts';
import { otherLinkHeader } from '../../daemon/model/device.ts';
import { inNetns } from '../support/kernel.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab, nodeAddresses, podAddresses } from '../support/lab/lab.ts';
import { startTun, Streams } from '../support/lab/peers.ts';
import { sh } from '../support/lab/shell.ts';
import { Traffic } from '../support/lab/traffic.ts';

/** Of linux/if_arp.h. */
const [ARPHRD_ETHER, ARPHRD_INFINIBAND] = [1, 32];

let lab: Lab;
let daemon: Daemon;
let traffic: Traffic;

const nodePorts = { web: 30_080, dns: 30_053 };

beforeEach(async () => {
  lab = new Lab();
  for (const number of [1, 9]) lab.addPod(number);
  daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web', vips, { nodePorts, spec: { type: 'NodePort' } }), ...slices('web', [1]));
  traffic = new Traffic(lab);
  await traffic.serve('pod1');
  // The periodic comparison of devices does not run during a test, so every change is caused by a netlink event.
  const extra = ['--sync-period', '1h', '--node-port-addresses', 'all', '--detect-local-mode', 'InterfaceNamePrefix'];
  await daemon.start({ hasSocketLb: false, hasFoundDevices: true, extra });
});

afterEach(() => lab.close());

/** "pod", "uplink", "uplink without header" or "none", by the names of the TCX programs on a device of the node. */
function programsOn(device: string): string {
  const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', device)) as { ifindex: number }[];
  const ifindex = link?.ifindex ?? 0;
  const ids = inNetns(`/run/netns/${lab.netns('node')}`, () => [...tcxPrograms(ifindex, true), ...tcxPrograms(ifindex, false)]);
  const names = ids.map((id) => (JSON.parse(sh('bpftool', '-j', 'prog', 'show', 'id', String(id))) as { name: string }).name);
  const known: Readonly<Record<string, string>> = {
    ...{ '': 'none', 'tc_pod_in,tc_pod_out': 'pod', 'tc_uplink_in,tc_uplink_out': 'uplink' },
    'tc_l3_in,tc_l3_out': 'uplink without header',
  };
  return known[names.join()] ?? `other: ${names.join()}`;
}

/** Waits until the devices have the programs of these roles. The time limit only keeps the test from waiting forever. */
async function programs(want: Readonly<Record<string, string>>): Promise<number> {
  const began = performance.now();
  const present = (): Record<string, string> => Object.fromEntries(Object.keys(want).map((name) => [name, programsOn(name)]));
  while (JSON.stringify(present()) !== JSON.stringify(want)) {
    if (performance.now() - began > 60_000) throw new Error(`${JSON.stringify(present())}, and not ${JSON.stringify(want)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return performance.now() - began;
}

/** The devices of `sluice status`: "eth0 uplink: default route". */
function statusDevices(): string[] {
  const { devices } = JSON.parse(daemon.cli('status', '-o', 'json')) as { devices: { name: string; role: string; reason: string }[] };
  return devices.map(({ name, role, reason }) => `${name} ${role.replace('DEVICE_ROLE_', '').toLowerCase()}: ${reason}`);
}

const warnings = (): readonly string[] => {
  const { lines } = JSON.parse(daemon.cli('status', '-o', 'json')) as { lines: { subject: string; details?: string[] }[] };
  return lines.find(({ subject }) => subject === 'Devices')?.details ?? [];
};

const pod = 'pod: the other end is in another network namespace';

async function expectServed(netns: string): Promise<void> {
  for (const address of [vips.IPv4, vips.IPv6]) {
    for (const [protocol, port] of [
      ['tcp', 80],
      ['udp', 53],
    ] as const) {
      const { failures, answers } = await traffic.ask(netns, { protocol, address, port });
      expect({ failures, answers }).toEqual({ failures: {}, answers: { pod1: 40 } });
    }
  }
}

/** Flows of pod9 that run while `change` runs must lose nothing. */
async function undisturbed(change: () => Promise<void>): Promise<void> {
  const streams = await Streams.start(lab, 'pod9', { address: vips.IPv4, tcp: 80, udp: 53 });
  await change();
  const { tcp, udp } = await streams.stop();
  for (const { sent, answered, error, servers } of [tcp, udp])
    expect({ lost: sent - answered, error, servers }).toEqual({ lost: 0, error: '', servers: ['pod1'] });
}

test('the devices of a node get their programs without a setting, and status and preflight list each with its role', async () => {
  expect(programsOn('eth0')).toBe('uplink');
  expect([programsOn('lxc1'), programsOn('lxc9'), programsOn('lo')]).toEqual(['pod', 'pod', 'none']);
  expect(statusDevices().toSorted()).toEqual(['eth0 uplink: default route', 'lo none: loopback', `lxc1 ${pod}`, `lxc9 ${pod}`]);
  expect(warnings()).toEqual([]);
  await expectServed('pod9');
  const { failures } = await traffic.ask('outside', { protocol: 'tcp', address: '10.0.0.1', port: nodePorts.web });
  expect(failures).toEqual({});

  const cli = [process.execPath, 'daemon/cli/main.ts', 'preflight', ...daemon.flags(false, true), '-o', 'json'];
  const { checks } = JSON.parse(lab.run('node', ...cli)) as { checks: { name: string; state: string; message: string }[] };
  expect(checks.find(({ name }) => name === 'devices')).toMatchObject({
    state: 'ok',
    message:
      'uplinks: eth0 (default route); pod interfaces: lxc1, lxc9; without programs: lo (loopback); pods with macvlan, ipvlan or SR-IOV interfaces get socket translation only',
  });
  expect(checks.map(({ name }) => name)).toContain('order on eth0');
});

describe('while flows of another pod run', () => {
  test('a pod that is added gets programs on its interface, and a removed one causes no problem', async () => {
    await undisturbed(async () => {
      lab.addPod(5);
      const waited = await programs({ lxc5: 'pod' });
      // The time depends on the load of the machine, so it is printed and not checked.
      console.log(`programs on a new pod interface ${waited.toFixed(0)} ms after its routes were added`);
      await expectServed('pod5');
      lab.removePod(5);
    });
    await programs({ eth0: 'uplink', lxc1: 'pod', lxc9: 'pod' });
    expect(warnings()).toEqual([]);
  });

  test('a device becomes an uplink with a default route or a subnet, and loses the role with them', async () => {
    const wan = { node: '10.0.2.1', outside: '10.0.2.254' };
    const request = { protocol: 'tcp', address: wan.node, port: nodePorts.web } as const;
    await undisturbed(async () => {
      lab.ip('node', 'link', 'add', 'wan', 'type', 'veth', 'peer', 'name', 'wan-peer', 'netns', lab.netns('outside'));
      lab.ip('node', 'link', 'set', 'wan', 'up');
      lab.ip('outside', 'link', 'set', 'wan-peer', 'up');
      lab.ip('outside', 'address', 'add', `${wan.outside}/24`, 'dev', 'wan-peer');
      lab.ip('node', 'address', 'add', `${wan.node}/32`, 'dev', 'wan');
      lab.ip('node', 'route', 'add', `${wan.outside}/32`, 'dev', 'wan');
      await programs({ wan: 'pod' });

      lab.ip('node', 'route', 'add', 'default', 'via', wan.outside, 'metric', '500');
      await programs({ wan: 'uplink' });
      expect(statusDevices()).toContain('wan uplink: default route');
      expect((await traffic.ask('outside', request)).failures).toEqual({});
      // The client is not a pod of this node, so its address is masqueraded only because the Service asks for it.
      expect(Object.keys((await traffic.seen())['pod1'] ?? {})).not.toContain(wan.outside);
      lab.ip('node', 'route', 'delete', 'default', 'via', wan.outside);
      await programs({ wan: 'pod' });

      lab.ip('node', 'address', 'add', '10.0.2.2/24', 'dev', 'wan');
      await programs({ wan: 'uplink' });
      expect(statusDevices()).toContain('wan uplink: route without a gateway');
      expect((await traffic.ask('outside', request)).failures).toEqual({});
      lab.ip('node', 'address', 'delete', '10.0.2.2/24', 'dev', 'wan');
      await programs({ wan: 'pod' });
    });
  });

  test('a bridge that gains its first pod loses its programs to its ports, and gets them back', async () => {
    lab.addPod(5);
    await programs({ lxc5: 'pod' });
    await undisturbed(async () => {
      lab.ip('node', 'link', 'add', 'cni0', 'type', 'bridge');
      lab.ip('node', 'address', 'add', '10.244.1.225/27', 'dev', 'cni0');
      lab.ip('node', 'link', 'set', 'cni0', 'up');
      // This device comes later, so cni0 was judged when it has programs.
      lab.ip('node', 'tuntap', 'add', 'name', 'tap0', 'mode', 'tap');
      lab.ip('node', 'address', 'add', '10.0.3.1/24', 'dev', 'tap0');
      await programs({ cni0: 'none', tap0: 'uplink' });
      expect(statusDevices()).toContain('cni0 none: a bridge without ports');

      lab.ip('node', 'address', 'delete', '10.0.3.1/24', 'dev', 'tap0');
      lab.ip('node', 'link', 'set', 'tap0', 'master', 'cni0');
      await programs({ cni0: 'uplink', tap0: 'none', lxc5: 'pod' });

      // Packets of pod5 to its gateway have the address of lxc5, which the bridge passes to the node.
      const { IPv4, IPv6 } = podAddresses(5);
      lab.ip('node', 'link', 'set', 'lxc5', 'master', 'cni0');
      lab.ip('node', 'route', 'replace', `${IPv4}/32`, 'dev', 'cni0');
      lab.ip('node', '-6', 'route', 'replace', `${IPv6}/128`, 'dev', 'cni0');
      await programs({ cni0: 'none', tap0: 'uplink', lxc5: 'pod' });
      expect(statusDevices()).toEqual(
        expect.arrayContaining([
          'cni0 none: a bridge, whose ports have the programs',
          'tap0 uplink: port of cni0, beside pods',
          `lxc5 ${pod}, port of cni0`,
        ]),
      );

      await expectServed('pod5');
      // The route to the pod leads to the bridge, and not to the pod interface.
      expect(daemon.cli('explain', 'tcp', `${IPv4}:4242`, `${vips.IPv4}:80`)).toContain('tc_pod_in processes a packet from a pod');

      lab.ip('node', 'link', 'set', 'lxc5', 'nomaster');
      await programs({ cni0: 'uplink', tap0: 'none', lxc5: 'pod' });
    });
  });
});

test('the status names a backend behind a device that cannot have a program, as soon as its route exists', async () => {
  const remote = { IPv4: '10.244.3.1', IPv6: 'fd00:244:3::1' };
  daemon.write('far.yaml', service('far', { IPv4: '10.96.0.20', IPv6: 'fd00:96::20' }), ...slices('far', [remote]));
  // The link-layer header of InfiniBand, which a TUN device can only pretend to have.
  await startTun(lab, 'node', { device: 'tun0', local: nodeAddresses.IPv4, remote: '10.0.0.2', port: 5555, type: ARPHRD_INFINIBAND });
  lab.ip('node', 'link', 'set', 'tun0', 'up');
  lab.ip('node', 'route', 'add', '10.244.3.0/24', 'dev', 'tun0');
  const said = `the route to the backend 10.244.3.1 leads through tun0, which has no program (${otherLinkHeader})`;
  for (const end = Date.now() + 60_000; !warnings().some((text) => text.startsWith(said));) {
    if (Date.now() > end) throw new Error(`no warning: ${warnings().join('; ')}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  expect(programsOn('tun0')).toBe('none');
  expect(statusDevices()).toContain(`tun0 none: ${otherLinkHeader}`);
  await daemon.process?.line((line) => line.includes('"level":"warn"') && line.includes(said));
});

test('a device whose link-layer header changes gets the other programs', async () => {
  lab.ip('node', 'tuntap', 'add', 'name', 'tun0', 'mode', 'tun');
  lab.ip('node', 'link', 'set', 'tun0', 'up');
  lab.ip('node', 'route', 'add', '10.244.3.0/24', 'dev', 'tun0');
  await programs({ tun0: 'uplink without header', eth0: 'uplink' });
  expect(statusDevices()).toContain('tun0 uplink: route without a gateway');
  // The type of a TUN device can change while it is down. The kernel reports the new type when the device is set up again.
  lab.ip('node', 'link', 'set', 'tun0', 'down');
  await startTun(lab, 'node', { device: 'tun0', local: nodeAddresses.IPv4, remote: '10.0.0.2', port: 5555, type: ARPHRD_ETHER });
  lab.ip('node', 'link', 'set', 'tun0', 'up');
  lab.ip('node', 'route', 'add', '10.244.3.0/24', 'dev', 'tun0');
  await programs({ tun0: 'uplink' });
});
