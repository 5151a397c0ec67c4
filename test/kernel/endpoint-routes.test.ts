// SPDX-License-Identifier: Apache-2.0
// The warning about backends to which the route leads through a device without a program, with real routes in a private network namespace.
import { beforeEach, expect, test } from 'vitest';
import { EndpointRoutes } from '../../daemon/host/endpoint-routes.ts';
import { type DeviceSettings, type JudgedDevice, otherLinkHeader } from '../../daemon/model/device.ts';
import type { Backend } from '../../daemon/model/frontend.ts';
import { deviceRoles } from '../../daemon/services/desired/device-roles.ts';
import { readDeviceFacts } from '../../daemon/source/netlink/device-facts.ts';
import { backendRow, desiredRow, frontendRow } from '../support/builders.ts';
import { newNetns } from '../support/kernel.ts';
import { ip } from './fixture.ts';

const auto: DeviceSettings = { podInterfaces: 'auto', uplinks: 'auto' };
let time = 0;

beforeEach(() => {
  newNetns();
  ip('link', 'set', 'lo', 'up');
  ip('tuntap', 'add', 'name', 'tun0', 'mode', 'tun');
  ip('tuntap', 'add', 'name', 'tap0', 'mode', 'tap');
  ip('link', 'add', 'name', 'br0', 'type', 'bridge');
  for (const name of ['tun0', 'tap0', 'br0']) ip('link', 'set', name, 'up');
  ip('address', 'add', '10.0.0.1/24', 'dev', 'tap0');
  ip('route', 'add', '10.244.2.0/24', 'via', '10.0.0.2');
  ip('route', 'add', '10.244.3.0/24', 'dev', 'tun0');
  ip('-6', 'route', 'add', 'fd00:3::/64', 'dev', 'tun0');
  ip('route', 'add', 'blackhole', '10.244.5.0/24');
});

const portsOf = (backends: readonly Backend[]) => [desiredRow('web', [frontendRow('10.96.0.10')], backends)];

/** The roles of the devices of the namespace; `changes` replaces fields of a device. */
function judge(settings: DeviceSettings, changes: Readonly<Record<string, Partial<JudgedDevice>>> = {}) {
  const devices = deviceRoles(readDeviceFacts(), settings).map((device) => ({ ...device, ...changes[device.name] }));
  return (ifindex: number): JudgedDevice | undefined => devices.find((device) => device.ifindex === ifindex);
}

interface Given {
  readonly settings?: DeviceSettings;
  readonly changes?: Readonly<Record<string, Partial<JudgedDevice>>>;
}

function problemsOf(backends: readonly Backend[], { settings = auto, changes }: Given = {}): readonly string[] {
  const options = { settings: { ...settings, socketLb: true }, ports: () => portsOf(backends), now: () => time };
  return new EndpointRoutes({ ...options, judge: judge(settings, changes) }).problems();
}

const local = (address: string): Backend => backendRow(address, { isLocal: true });

test('a backend behind a device with a program, an own address and an address without a route are no problem', () => {
  expect(problemsOf(['10.244.2.1', '10.0.0.1', '10.0.0.7', '192.0.2.1', '10.244.5.1'].map((address) => backendRow(address)))).toEqual([]);
});

test('a device without a link-layer header has programs', () => {
  expect(problemsOf([backendRow('10.244.3.1'), backendRow('fd00:3::1')])).toEqual([]);
});

test('a device with another link-layer header than Ethernet is named once, with one backend and the next step', () => {
  const changes = { tun0: { role: 'none', reason: otherLinkHeader, isCovered: false } } as const;
  expect(problemsOf([backendRow('10.244.3.1'), backendRow('10.244.3.2'), backendRow('fd00:3::1')], { changes })).toEqual([
    'the route to the backend 10.244.3.1 leads through tun0, which has no program (its frames have another link-layer header than Ethernet), so replies that arrive there are not translated: only connections that socket translation makes can use it (--socket-lb is on)',
  ]);
  expect(problemsOf([backendRow('fd00:3::1')], { changes })).toEqual([expect.stringContaining('the backend fd00:3::1 leads through tun0')]);
});

test('a device that --uplinks does not name is named with the flag', () => {
  const settings: DeviceSettings = { podInterfaces: 'auto', uplinks: ['br0'] };
  expect(problemsOf([backendRow('10.244.2.1')], { settings })).toEqual([
    expect.stringMatching(/leads through tap0, which has no program \(not named by --uplinks\), .*: set --uplinks to auto, or add tap0$/),
  ]);
});

test('without any program on devices, nothing is reported', () => {
  expect(problemsOf([backendRow('10.244.3.1')], { settings: { podInterfaces: [], uplinks: [] } })).toEqual([]);
});

test('a bridge whose ports have the programs is no problem', () => {
  ip('route', 'add', '10.244.1.0/24', 'dev', 'br0');
  const changes = { br0: { role: 'none', reason: 'a bridge, whose ports have the programs', isCovered: true } } as const;
  expect(problemsOf([local('10.244.1.1')], { changes })).toEqual([]);
});

test('a pod of this node that is not behind a pod interface has socket translation only', () => {
  const said = [
    expect.stringMatching(/^the pod 10\.0\.0\.9 of this node is reached through tap0, so it is not behind a pod interface \(macvlan/),
  ];
  expect(problemsOf([local('10.0.0.9')], { changes: { tap0: { kind: 'macvlan' } } })).toEqual(said);
  expect(problemsOf([local('10.0.0.9')], { changes: { tap0: { kind: '' } } })).toEqual(said);
  // The same address on another node is reached through an uplink, as it should be.
  expect(problemsOf([backendRow('10.0.0.9')], { changes: { tap0: { kind: '' } } })).toEqual([]);
  expect(problemsOf([local('10.0.0.9')], { changes: { tap0: { kind: 'veth', role: 'pod' } } })).toEqual([]);
});

test('the result is kept for 10 s, and the number of looked up routes is limited', () => {
  const many = Array.from({ length: 5000 }, (_, i) => backendRow(`10.${100 + (i >> 8)}.${i & 255}.1`));
  let asked = 0;
  const judged = judge(auto);
  ip('route', 'add', '10.96.0.0/11', 'dev', 'tap0');
  const routes = new EndpointRoutes({
    settings: { ...auto, socketLb: true },
    ports: () => portsOf(many),
    now: () => time,
    judge: (ifindex) => {
      asked += 1;
      return judged(ifindex);
    },
  });
  for (const [at, want] of [
    [0, 64],
    [9999, 64],
    [10_000, 128],
  ] as const) {
    time = at;
    expect(routes.problems()).toEqual([]);
    expect(asked).toBe(want);
  }
});
