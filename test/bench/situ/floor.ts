// SPDX-License-Identifier: Apache-2.0
// Attaches yardstick programs to the devices and the cgroup of a node of the lab: the floor programs, or the empty programs, whose
// run time is that of the measurement itself. It runs in the network namespace of the node, prints the program ids as one line of
// JSON, and waits. When it is killed, the kernel detaches everything. It must never pin anything. node.ts starts it.
import { execFileSync } from 'node:child_process';
import { attachCgroup, attachTcx, AttachType, programId } from '../../../daemon/kernel/link.ts';
import { BpfMap, duplicate } from '../../../daemon/kernel/map.ts';
import { BpfObject } from '../../../daemon/kernel/object.ts';
import { floorBackend, floorVip } from '../harness.ts';
import { BACKEND_PORT, floorFrontends, floorRow, groups, type Place, places } from './services.ts';

/** The programs of a node. The key is the hook, named by the program of Sluice on that hook. */
export const hookPrograms = {
  tc_pod_in: { floor: 'floor_pod_in', empty: 'bench_empty', devices: ['lxc1', 'lxc2', 'lxc9'], isIngress: true },
  tc_pod_out: { floor: 'floor_pod_out', empty: 'bench_empty', devices: ['lxc1', 'lxc2', 'lxc9'], isIngress: false },
  tc_uplink_in: { floor: 'floor_uplink_in', empty: 'bench_empty', devices: ['eth0'], isIngress: true },
  tc_uplink_out: { floor: 'floor_uplink_out', empty: 'bench_empty', devices: ['eth0'], isIngress: false },
} as const;
export type TcHook = keyof typeof hookPrograms;
/** The tc hooks, and the hook of connect(). */
export type Hook = TcHook | 'sock_connect4';
export type ProgramIds = Readonly<Record<Hook, number>>;

/** Map sizes. They are the default sizes of Sluice's maps for the same purposes, lb4_frontends and ct4. */
const SIZES = { floor_vips: 65_536, floor_flows: 262_144 };

const ifindexOf = (device: string): number =>
  (JSON.parse(execFileSync('ip', ['-j', 'link', 'show', 'dev', device], { encoding: 'utf8' })) as { ifindex: number }[])[0]?.ifindex ?? 0;

function fill(object: BpfObject): void {
  const vips = new BpfMap(duplicate(object.mapFd('floor_vips')));
  const backends = new BpfMap(duplicate(object.mapFd('floor_backends')));
  for (const frontend of floorFrontends()) vips.set(...floorVip(frontend));
  const devices: Record<Place, readonly [number, number]> = {
    remote: [ifindexOf('eth0'), ifindexOf('eth0')],
    node: [0, 0],
    pods: [ifindexOf('lxc1'), ifindexOf('lxc2')],
  };
  for (const place of places) {
    for (const n of [0, 1] as const)
      backends.set(
        ...floorBackend(floorRow(place) + n, { address: groups[place].backends[n], port: BACKEND_PORT, device: devices[place][n] }),
      );
  }
}

function attach(path: string, cgroup: string, kind: 'floor' | 'empty'): ProgramIds {
  const object = new BpfObject(path);
  object.load({ sizes: SIZES });
  if (kind === 'floor') fill(object);
  const ids: Partial<Record<Hook, number>> = {};
  for (const [hook, { devices, isIngress, ...programs }] of Object.entries(hookPrograms) as [TcHook, (typeof hookPrograms)[TcHook]][]) {
    const program = object.programFd(programs[kind]);
    for (const device of devices) attachTcx(program, ifindexOf(device), isIngress);
    ids[hook] = programId(program);
  }
  const connect = object.programFd(kind === 'floor' ? 'bench_floor_hook' : 'bench_empty_hook');
  attachCgroup(connect, cgroup, AttachType.connect4);
  return { ...ids, sock_connect4: programId(connect) } as ProgramIds;
}

if (import.meta.main) {
  const [path = '', cgroup = '', kind = ''] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(attach(path, cgroup, kind === 'empty' ? 'empty' : 'floor'))}\n`);
  setInterval(() => undefined, 1 << 30);
}
