// SPDX-License-Identifier: Apache-2.0
// The facts about all devices of this network namespace, read once from the kernel, for commands that run without a daemon. Reads only.
import { dumpNextHops } from '../../kernel/device-routes.ts';
import { addresses, links } from '../../kernel/rtnetlink.ts';
import { type DeviceFacts, type DeviceRoutes, factsOf } from '../../model/device.ts';
import { deviceOf } from './links.ts';
import { subnetDevices } from './local-addresses.ts';
import { addHop } from './routes.ts';

/** In the order of the ifindex. Throws KernelError. */
export function readDeviceFacts(): DeviceFacts[] {
  const routes = new Map<number, DeviceRoutes>();
  const steps = dumpNextHops((hop) => addHop(routes, hop));
  while (steps.next().done !== true);
  const subnets = subnetDevices(addresses());
  const devices = links().toSorted((a, b) => a.ifindex - b.ifindex);
  return devices.map((link) => {
    const { ifindex } = link;
    return factsOf(deviceOf(link, 0), routes.get(ifindex), subnets.has(ifindex) ? { ifindex } : undefined);
  });
}
