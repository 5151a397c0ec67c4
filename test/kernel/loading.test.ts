// SPDX-License-Identifier: Apache-2.0
// Loading and attaching: verifier messages, pinned maps of a different layout or size, TCX links and clsact filters, cgroup links, and
// rtnetlink compared with `ip`. The tests use a private namespace, bpffs and cgroup.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { isDenied, isNotFound, ExitError } from '../../daemon/base/errors.ts';
import { attachClsact, detachClsact } from '../../daemon/kernel/clsact.ts';
import { findCgroup2 } from '../../daemon/kernel/host.ts';
import {
  attachCgroup,
  attachTcx,
  AttachType,
  cgroupOfLink,
  linkInfo,
  programId,
  tcxPrograms,
  updateLink,
} from '../../daemon/kernel/link.ts';
import { Layout } from '../../daemon/maps/gen/layouts.ts';
import { PinDirectory } from '../../daemon/bpf/pins.ts';
import { closeFd, openPin, pin, unpin } from '../../daemon/kernel/map.ts';
import { BpfObject, verifierReason } from '../../daemon/kernel/object.ts';
import { addresses, LinkMonitor, links, routeTo } from '../../daemon/kernel/rtnetlink.ts';
import { addressBytes, addressText } from '../../daemon/model/address.ts';
import { ExplainPrograms } from '../../daemon/explain/programs.ts';
import { Bpffs, devices, enterNamespace, ip, Loaded, objectsPath, smallSizes } from './fixture.ts';
import { serviceValue } from '../support/builders.ts';

let bpffs: Bpffs;
beforeAll(() => enterNamespace());
beforeEach(() => {
  bpffs = new Bpffs();
});
afterEach(() => bpffs.close());

describe('the verifier', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-bad-'));
  afterAll(() => rmSync(directory, { recursive: true }));

  test('the error of a rejected program names the program, the reason and the source line', () => {
    const source = join(directory, 'bad.bpf.c');
    writeFileSync(
      source,
      `#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int bad_reader(struct __sk_buff *skb)
{
	return *(char *)(long)skb->data; /* this byte is outside of the checked range */
}
char _license[] SEC("license") = "GPL";
`,
    );
    const multiarch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
    execFileSync('clang-19', [
      '-O2',
      '-g',
      '-target',
      'bpf',
      `-I/usr/include/${multiarch}`,
      '-c',
      source,
      '-o',
      join(directory, 'bad.bpf.o'),
    ]);
    const object = new BpfObject(join(directory, 'bad.bpf.o'));
    expect(() => object.load()).toThrow(
      /^load program bad_reader: EACCES: invalid access to packet.*, at return \*\(char \*\)\(long\)skb->data;.*bad\.bpf\.c:5/,
    );
    object.close();
  });

  test('an object is loaded in another thread while the event loop goes on, with the same error for a rejected program', async () => {
    let rounds = 0;
    let isLoading = true;
    const count = async (): Promise<void> => {
      for (; isLoading; rounds += 1) await nextTurn();
    };
    const counting = count();
    const loaded = await ExplainPrograms.loadInThread({
      objectsPath,
      sizes: Object.fromEntries(Object.keys(smallSizes).map((map) => [map, 64])),
    });
    isLoading = false;
    await counting;
    loaded.close();
    // The verifier needs more than 100 ms, and a round less than 1 ms.
    expect(rounds).toBeGreaterThan(20);
    const object = new BpfObject(join(directory, 'bad.bpf.o'));
    await expect(object.loadInThread()).rejects.toThrow(/^load program bad_reader: EACCES: invalid access to packet/);
    object.close();
  });

  test('a missing file, or a file that is not a BPF object, is rejected when it is opened', () => {
    expect(() => new BpfObject(join(directory, 'none.bpf.o'))).toThrow(/open object .*none\.bpf\.o: ENOENT/);
    writeFileSync(join(directory, 'text.bpf.o'), 'not an object');
    expect(() => new BpfObject(join(directory, 'text.bpf.o'))).toThrow(/open object .*text\.bpf\.o/);
  });

  test.for([
    { name: 'empty', log: '', want: undefined },
    { name: 'statistics only', log: 'processed 5 insns (limit 1000000)\n', want: undefined },
    {
      name: 'a source line and a reason',
      log: '; x = y; @ a.c:3\n0: (61) r1\nR1 type=scalar expected=ctx\nprocessed 1 insns',
      want: 'R1 type=scalar expected=ctx, at x = y; @ a.c:3',
    },
    {
      name: 'stack too large',
      log: '0: safe\ncombined stack size of 3 calls is 688. Too large\nverification time 1 usec',
      want: 'combined stack size of 3 calls is 688. Too large',
    },
  ])('the reason is taken from a verifier log: $name', ({ log, want }) => {
    expect(verifierReason(log)).toBe(want);
  });

  test('the verifier processes fewer than 100,000 instructions for each program', () => {
    const loaded = new Loaded(bpffs);
    const tc = ['tc_pod_in', 'tc_pod_out', 'tc_uplink_in', 'tc_uplink_out', 'tc_l3_in', 'tc_l3_out'];
    for (const name of [...tc, 'sock_connect4', 'sock_sendmsg6']) {
      const info = readFileSync(`/proc/self/fdinfo/${loaded.datapath.program(name)}`, 'utf8');
      const verified = Number(/verified_insns:\s+(\d+)/.exec(info)?.[1]);
      expect(verified).toBeGreaterThan(10);
      expect(verified).toBeLessThan(100_000);
    }
    loaded.datapath.close();
  });
});

test('the programs for devices without a link-layer header are loaded when they are needed, with the same maps', () => {
  const { datapath } = new Loaded(bpffs);
  const isProgram = (fd: string): boolean => {
    try {
      return readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').includes('verified_insns');
    } catch {
      return false;
    }
  };
  const programs = (): string[] => readdirSync('/proc/self/fd').filter(isProgram);
  const mapIds = (): number[] => datapath.mapNames().map((name) => datapath.map(name).info.id);
  const [before, maps] = [programs().length, mapIds()];
  const first = programId(datapath.program('tc_l3_in'));
  expect(programs().length).toBe(before + 2);
  expect(programId(datapath.program('tc_l3_in'))).toBe(first);
  expect(programs().length).toBe(before + 2);
  expect(mapIds()).toEqual(maps);
  datapath.reload(() => expect(programId(datapath.program('tc_l3_in'))).not.toBe(first));
  expect(programs().length).toBe(before + 2);
  datapath.reload(() => undefined);
  expect(programs().length).toBe(before);
  expect(() => datapath.program('tc_nothing')).toThrow(/find program tc_nothing: ENOENT/);
  expect(() => datapath.verify()).not.toThrow();
  expect(programs().length).toBe(before);
  datapath.close();
});

describe('pinned maps', () => {
  test('pinned maps are reused by the next load, with their content', () => {
    const first = new Loaded(bpffs);
    first.maps.services.set(5, serviceValue({ base: 32, count: 2 }));
    const seed = first.datapath.map('lb_config').get(new Uint8Array(4));
    const ids = first.datapath.mapNames().map((name) => first.datapath.map(name).info.id);
    first.datapath.close();
    const second = new Loaded(bpffs);
    expect(second.datapath.mapNames().map((name) => second.datapath.map(name).info.id)).toEqual(ids);
    expect(second.maps.services.get(5)).toEqual(serviceValue({ base: 32, count: 2 }));
    expect(second.datapath.map('lb_config').get(new Uint8Array(4))).toEqual(seed);
    second.datapath.close();
  });

  test('pinned maps keep their size and content when the settings ask for another size, and the difference is described', () => {
    const first = new Loaded(bpffs);
    first.maps.services.set(5, serviceValue({ base: 32, count: 2 }));
    expect(first.datapath.sizeProblems()).toEqual([]);
    first.datapath.close();
    const sizes = {
      ...smallSizes,
      ...{ ct4: { entries: 4096, flag: 'max-flows' }, ct6: { entries: 4096, flag: 'max-flows' } },
      lb_slots: { entries: 128, flag: 'max-slots', valueFor: (entries: number) => entries * 16 },
    };
    const second = new Loaded(bpffs, sizes);
    expect(second.maps.services.get(5)).toEqual(serviceValue({ base: 32, count: 2 }));
    expect(['ct4', 'ct6', 'lb_slots'].map((name) => second.datapath.map(name).info.maxEntries)).toEqual([8192, 8192, 64]);
    const path = join(bpffs.path, 'sluice');
    const remedy = `stop sluiced, run \`sluice uninstall --pin-path ${path}\`, which interrupts the Services of this node, and start sluiced again`;
    const problems = [
      `--max-flows is 4096, but the pinned maps ct4, ct6 were created for 8192, and sluiced uses the pinned size: set --max-flows 8192, or ${remedy}`,
      `--max-slots is 2048, but the pinned map lb_slots was created for 1024, and sluiced uses the pinned size: set --max-slots 1024, or ${remedy}`,
    ];
    expect(second.datapath.sizeProblems().toSorted()).toEqual(problems);
    // A reload loads new programs, which use the same maps.
    second.datapath.reload(() => undefined);
    expect(second.datapath.map('ct4').info.maxEntries).toBe(8192);
    const { summary, problems: described } = second.datapath.describePinned();
    expect([summary, described.toSorted()]).toEqual([expect.stringMatching(/^\d+ maps of this layout would be taken over$/), problems]);
    second.datapath.close();
  });

  test('a pinned map whose size does not come from a setting is rejected if the size differs, because another version created it', () => {
    new Loaded(bpffs).datapath.close();
    const pinned = join(bpffs.path, 'sluice/maps/lb_drops');
    rmSync(pinned);
    execFileSync('bpftool', [
      ...['map', 'create', pinned, 'type', 'percpu_array', 'key', '4', 'value', '16', 'entries', '3'],
      'name',
      'lb_drops',
    ]);
    expect(() => new Loaded(bpffs)).toThrow(
      /lb_drops has another layout \(.*3 entries; expected: .* entries\): run the version that created it/,
    );
  });

  test('a directory or a program in the place of a pinned map is rejected and named at the start', () => {
    new Loaded(bpffs).datapath.close();
    const pinned = join(bpffs.path, 'sluice/maps/lb_slots');
    rmSync(pinned);
    mkdirSync(pinned);
    expect(() => new Loaded(bpffs)).toThrow(`${pinned} is a directory, and not a pinned map: remove it, or name another --pin-path`);
    rmdirSync(pinned);
    const object = new BpfObject(join(objectsPath, 'tc_pod.bpf.o'));
    object.load({ sizes: {} });
    pin(object.programFd('tc_pod_in'), pinned);
    object.close();
    expect(() => new Loaded(bpffs)).toThrow(`${pinned} is a pinned program, and not a pinned map: remove it, or name another --pin-path`);
  });

  test('a directory that takes the place of a pin while the daemon runs is named, whatever the operation', () => {
    const { datapath } = new Loaded(bpffs);
    const pinned = join(bpffs.path, 'sluice/maps/lb_slots');
    rmSync(pinned);
    mkdirSync(pinned);
    const reason = `${pinned}: EACCES: the path is a directory and not a pin: remove it`;
    expect(() => datapath.repairPin('lb_slots')).toThrow(`open pin ${reason}`);
    const link = new PinDirectory(join(bpffs.path, 'sluice')).pathOf('links', 'tc_pod_in-2');
    mkdirSync(link);
    expect(() => openPin(link)).toThrow(`open pin ${link}: EACCES: the path is a directory and not a pin: remove it`);
    expect(() => unpin(link)).toThrow(`unpin ${link}: EISDIR: the path is a directory and not a pin: remove it`);
    expect(() => pin(datapath.mapFds()['lb_slots'] ?? -1, link)).toThrow(
      `pin ${link}: EEXIST: the path is a directory and not a pin: remove it`,
    );
    rmdirSync(pinned);
    expect(datapath.repairPin('lb_slots')).toEqual(['pin was missing']);
    datapath.close();
  });

  test('pinned maps of another layout version are rejected', () => {
    const first = new Loaded(bpffs);
    const config = first.datapath.map('lb_config');
    const row = config.get(new Uint8Array(4)) ?? new Uint8Array();
    config.set(new Uint8Array(4), row.with(0, 99));
    first.datapath.close();
    expect(() => new Loaded(bpffs)).toThrow(ExitError);
    expect(() => new Loaded(bpffs)).toThrow(`layout 99, and this version has ${Layout.LAYOUT_VERSION}`);
  });
});

describe('links', () => {
  let loaded: Loaded;
  const path = (): string => join(bpffs.path, 'link');
  beforeEach(() => {
    loaded = new Loaded(bpffs);
  });
  afterEach(() => loaded.datapath.close());

  test('a TCX link is attached, pinned, updated through its pin, and has no device after the device is deleted', () => {
    ip('link', 'add', 'temp0', 'type', 'veth', 'peer', 'name', 'temp1');
    const [{ ifindex } = { ifindex: 0 }] = JSON.parse(ip('-j', 'link', 'show', 'dev', 'temp0')) as { ifindex: number }[];
    const link = attachTcx(loaded.datapath.program('tc_pod_in'), ifindex, true);
    pin(link, path());
    const before = linkInfo(link);
    closeFd(link);
    const again = openPin(path()) ?? -1;
    updateLink(again, loaded.datapath.program('tc_uplink_in'));
    const after = linkInfo(again);
    expect(after).toMatchObject({ id: before.id, ifindex });
    expect(after.programId).not.toBe(before.programId);
    expect(tcxPrograms(ifindex, true)).toEqual([after.programId]);
    ip('link', 'delete', 'temp0');
    expect(linkInfo(again).ifindex).toBe(0);
    closeFd(again);
    expect(() => attachTcx(loaded.datapath.program('tc_pod_in'), ifindex, true)).toThrow(expect.toSatisfy(isNotFound));
  });

  test('a clsact filter is attached, replaced and detached; detaching a missing filter is not an error', () => {
    const filters = (): string => execFileSync('tc', ['filter', 'show', 'dev', 'lxc3', 'ingress'], { encoding: 'utf8' });
    attachClsact(loaded.datapath.program('tc_pod_in'), devices.lxc3, true);
    expect(filters()).toContain('tc_pod_in');
    attachClsact(loaded.datapath.program('tc_uplink_in'), devices.lxc3, true);
    expect(filters()).toContain('tc_uplink_in');
    expect(filters()).not.toContain('tc_pod_in');
    detachClsact(devices.lxc3, true);
    expect(filters()).toBe('');
    detachClsact(devices.lxc3, true);
    detachClsact(devices.lxc2, true);
  });

  test('a cgroup link is attached, and is rejected where another program is attached without the multi flag', () => {
    const cgroup = join(findCgroup2() ?? '', `sluice-test-${process.pid}`);
    const program = loaded.datapath.program('sock_connect4');
    mkdirSync(cgroup);
    try {
      const link = attachCgroup(program, cgroup, AttachType.connect4);
      expect(cgroupOfLink(link)).toBeGreaterThan(0n);
      closeFd(link);
      pin(program, path());
      execFileSync('bpftool', ['cgroup', 'attach', cgroup, 'connect4', 'pinned', path()]);
      expect(() => attachCgroup(program, cgroup, AttachType.connect4)).toThrow(expect.toSatisfy(isDenied));
      execFileSync('bpftool', ['cgroup', 'detach', cgroup, 'connect4', 'pinned', path()]);
    } finally {
      rmdirSync(cgroup);
    }
  });
});

describe('rtnetlink', () => {
  test('rtnetlink lists the links and addresses that `ip` prints', () => {
    const shown = JSON.parse(ip('-j', '-d', 'link', 'show')) as {
      ifindex: number;
      ifname: string;
      link_type: string;
      address: string;
      mtu: number;
      linkinfo?: { info_kind?: string };
    }[];
    expect(links()).toEqual(
      shown.map((link) => ({
        ifindex: link.ifindex,
        name: link.ifname,
        kind: link.linkinfo?.info_kind ?? '',
        mtu: link.mtu,
        linkHeader: { ether: 'ethernet', none: 'none' }[link.link_type] ?? 'other',
        isLoopback: link.link_type === 'loopback',
        address: link.address,
        // Both ends of each veth pair are in this namespace, and there is no bridge.
        ...{ hasPeerElsewhere: false, master: 0 },
      })),
    );
    const own = addresses()
      .filter((row) => row.ifindex === devices.eth0)
      .map((row) => addressText(row.address));
    expect(own).toEqual(expect.arrayContaining(['10.0.0.1', 'fd00:10::1']));
  });

  test('rtnetlink returns the route to an address, and ENETUNREACH if there is no route', () => {
    expect(routeTo(addressBytes('10.244.1.3'))).toMatchObject({ ifindex: devices.lxc3, type: 1 });
    expect(routeTo(addressBytes('10.0.0.1'))).toMatchObject({ type: 2 });
    expect(() => routeTo(addressBytes('192.0.2.1'))).toThrow(/ENETUNREACH/);
    expect(() => routeTo(addressBytes('2001:db8::1'))).toThrow(/ENETUNREACH/);
  });

  test('a dump that consists of many netlink messages is read completely', () => {
    const commands = Array.from({ length: 300 }, (_, i) => `link add many${i} type veth peer name peer${i}`).join('\n');
    execFileSync('ip', ['-batch', '-'], { input: commands });
    expect(links().filter((link) => /^(many|peer)\d/.test(link.name))).toHaveLength(600);
    execFileSync('ip', ['-batch', '-'], {
      input: commands.replaceAll('link add', 'link delete').replaceAll(/ type veth peer name \S+/g, ''),
    });
    expect(links().filter((link) => /^(many|peer)\d/.test(link.name))).toHaveLength(0);
  });

  test('the link monitor reports when a device is created, renamed and deleted', async () => {
    const monitor = new LinkMonitor();
    const seen: string[] = [];
    const gone = Promise.withResolvers<void>();
    monitor.listen(
      (event) => {
        seen.push(event.kind === 'new' ? event.link.name : 'gone');
        if (event.kind === 'gone') gone.resolve();
      },
      () => seen.push('lost'),
    );
    ip('link', 'add', 'event0', 'type', 'veth', 'peer', 'name', 'event1');
    ip('link', 'set', 'event0', 'name', 'event2');
    ip('link', 'delete', 'event2');
    await gone.promise;
    monitor.close();
    expect(seen).toEqual(expect.arrayContaining(['event0', 'event1', 'event2', 'gone']));
    expect(seen).not.toContain('lost');
  });
});

test('this test leaves no cgroup behind', () => {
  expect(existsSync(join(findCgroup2() ?? '', `sluice-test-${process.pid}`))).toBe(false);
});
