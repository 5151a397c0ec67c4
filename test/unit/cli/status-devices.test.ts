// SPDX-License-Identifier: Apache-2.0
// The devices in the answer of the API and in the text of `sluice status`: every device with its role and the reason, and a limited number.
import { expect, test } from 'vitest';
import { statusMessage } from '../../../daemon/api/messages.ts';
import { statusText } from '../../../daemon/cli/status-text.ts';
import type { DeviceStatus } from '../../../daemon/status/view.ts';
import type { StatusResponse__Output as Status } from '../../../proto/gen/sluice/v1/StatusResponse.ts';
import { status } from '../api/fixture.ts';

const messageOf = (devices: readonly DeviceStatus[]): Status => statusMessage({ ...status, devices }) as Status;

/** The part of the text about devices. */
const textOf = (devices: readonly DeviceStatus[]): string =>
  /\n\n(.*?)Programs that sluiced keeps attached/s.exec(statusText(messageOf(devices)))?.[1] ?? 'nothing found';

const devices: readonly DeviceStatus[] = [
  { name: 'lo', role: 'none', reason: 'loopback' },
  { name: 'eth0', role: 'uplink', reason: 'default route' },
  { name: 'veth0', role: 'pod', reason: 'the other end is in another network namespace' },
];

test('each device is shown with its role and the reason', () => {
  expect(messageOf(devices).devices).toEqual([
    { name: 'lo', role: 'DEVICE_ROLE_NONE', reason: 'loopback' },
    { name: 'eth0', role: 'DEVICE_ROLE_UPLINK', reason: 'default route' },
    { name: 'veth0', role: 'DEVICE_ROLE_POD', reason: 'the other end is in another network namespace' },
  ]);
  expect(textOf(devices)).toMatchInlineSnapshot(`
    "Network devices:
      Device   Role     Reason
      lo       none     loopback
      eth0     uplink   default route
      veth0    pod      the other end is in another network namespace
    "
  `);
});

test('a daemon of an earlier version reports no devices, and then nothing is shown', () => {
  expect(textOf([])).toBe('');
});

test('of very many devices, the first 500 and the number of the others are shown', () => {
  const many = Array.from({ length: 503 }, (_, i): DeviceStatus => ({ name: `veth${i}`, role: 'pod', reason: 'x' }));
  const { devices: listed, moreDevices } = messageOf(many);
  expect([listed.length, moreDevices]).toEqual([500, 3]);
  expect(textOf(many)).toMatch(/\n {2}veth499 +pod +x\n {2}and 3 more\n$/);
});
