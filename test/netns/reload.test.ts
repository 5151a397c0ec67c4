// SPDX-License-Identifier: Apache-2.0
// `sluice reload` under traffic: every program is replaced fifty times without losing a packet. The results are read from numbered
// datagrams, iperf3, the byte counter of the backend's device, the pinned links, and the descriptors of the daemon.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { askReload } from '../../daemon/cli/client.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { Numbers, Server, Stall } from '../support/lab/peers.ts';
import { sh } from '../support/lab/shell.ts';
import { existing, heldBy, pinnedLinks } from '../support/lab/bpf-objects.ts';

const RELOADS = 50;
const DATAGRAMS = 100_000;
/** Runs both ends of the stream and its observer with real-time priority, so that a busy machine does not cause a stall. */
const firstServed = ['chrt', '-f', '10'];
/** Linux retransmits a lost segment after 200 ms at the earliest, unless later acknowledgements reveal the loss. */
const RETRANSMISSION_MS = 200;
/** Before the first reload, a measurement of this length finds the longest stall that the machine causes by itself. */
const YARDSTICK_MS = 3000;

let lab: Lab;
let daemon: Daemon;

beforeEach(async () => {
  lab = new Lab();
  for (const number of [1, 2, 9]) lab.addPod(number);
  await Promise.all([1, 2].map((number) => Server.start(lab, { netns: `pod${number}`, name: `pod${number}` })));
  daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1, 2]));
});

afterEach(() => lab.close());

const links = () => pinnedLinks(join(lab.bpffs, 'sluice/links'));
const linkIds = (): number[] => links().map((link) => link.id);
const programIds = (): number[] => links().map((link) => link.prog_id);
/** Ids of the programs of which the daemon has a descriptor. */
const heldPrograms = () => heldBy(daemon.process?.pid ?? 0).filter((name) => name.startsWith('prog '));

async function until(is: () => boolean): Promise<void> {
  for (const end = Date.now() + 30_000; !is() && Date.now() < end;) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(is()).toBe(true);
}

describe.each([{ hasSocketLb: true }, { hasSocketLb: false }])('socket translation: $hasSocketLb', ({ hasSocketLb }) => {
  test(`${DATAGRAMS} datagrams and an iperf3 stream continue without loss during ${RELOADS} reloads`, async () => {
    await daemon.start({ hasSocketLb });
    // A separate Service for iperf3, with one backend.
    const stream = { IPv4: '10.96.0.30', IPv6: 'fd00:96::30' };
    const iperf = lab.start('pod1', [...firstServed, 'iperf3', '-s', '-1', '--forceflush', '-p', '8081']);
    await iperf.line((line) => line.includes('listening'));
    daemon.write('iperf.yaml', service('iperf', stream), ...slices('iperf', [1], { web: 8081 }));
    await daemon.settled((services) => services.some((each) => each.key.startsWith('default/iperf')));

    const before = { links: linkIds(), programs: programIds(), held: heldPrograms() };
    const numbers = await Numbers.start(lab, 'pod9', { address: vips.IPv4, port: 53, least: DATAGRAMS });
    const stall = await Stall.start(lab, 'pod1', firstServed);
    const client = lab.start('pod9', [...firstServed, 'iperf3', '-c', stream.IPv4, '-p', '80', '-b', '100M', '-t', '600', '-J'], {
      inCgroup: true,
    });
    const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
    await iperf.line((line) => line.includes(' connected to '));
    // The time before the stream begins must not count as a stall.
    await stall.longest();
    await pause(YARDSTICK_MS);
    const usual = await stall.longest();

    for (let reload = 0; reload < RELOADS; reload += 1) {
      expect(await askReload({ socket: daemon.socket, timeoutMs: 30_000 })).toMatchObject({ hooks: before.links.length });
    }
    const longest = await stall.longest();
    const result = await numbers.stop();
    client.signal('SIGINT');
    const said = (await client.ended, client.lines.join('\n'));
    const { end, error } = JSON.parse(said) as { end: { sum_sent: { bytes: number } }; error?: string };

    expect(result.lost).toBe(0);
    expect(result.sent).toBeGreaterThanOrEqual(DATAGRAMS);
    expect(Object.keys(result.servers)).toHaveLength(1);
    expect(error ?? 'interrupt').toMatch(/interrupt/);
    expect(end.sum_sent.bytes).toBeGreaterThan(1e7);
    console.log(`longest stall of the stream: ${usual.toFixed(0)} ms without reloads, ${longest.toFixed(0)} ms through ${RELOADS} of them`);
    expect(longest).toBeLessThan(Math.max(RETRANSMISSION_MS, 3 * usual));
    expect(linkIds()).toEqual(before.links);
    expect(programIds().some((id) => before.programs.includes(id))).toBe(false);
    expect(heldPrograms()).toHaveLength(before.held.length);
    // The kernel frees replaced programs shortly afterwards.
    await until(() => existing(before.held).length === 0);
  });
});

describe('a reload that fails', () => {
  /** Starts the daemon with its own copy of the BPF objects, which the test may damage. */
  const withOwnObjects = async (): Promise<string> => {
    const copy = join(lab.directory, 'sluice');
    for (const folder of ['daemon', 'datapath', 'proto', 'package.json']) {
      cpSync(join(import.meta.dirname, '../..', folder), join(copy, folder), { recursive: true });
    }
    sh('ln', '-s', join(import.meta.dirname, '../../node_modules'), join(copy, 'node_modules'));
    await daemon.start({ hasSocketLb: true, main: join(copy, 'daemon/main.ts') });
    return join(copy, 'datapath/gen');
  };

  test.for([
    // The object file contains the path of the checkout, so the length of the path decides which part of the file the test
    // damages.
    { what: 'damaged objects', file: 'tc_uplink.bpf.o', says: /load program tc_uplink_in: EINVAL|open object \S*: LIBBPF_ERRNO__/ },
    { what: 'objects with another map layout', file: 'layout.bpf.o', says: /another map layout .*restart sluiced/ },
  ])('$what are rejected with an error message, and the previous programs keep running', async ({ file, says }) => {
    const objects = await withOwnObjects();
    const before = { links: linkIds(), programs: programIds(), held: heldBy(daemon.process?.pid ?? 0) };
    writeFileSync(join(objects, file), readFileSync(join(objects, file)).fill(7, 100, 200));
    expect(() => daemon.cli('reload')).toThrow(says);
    expect({ links: linkIds(), programs: programIds() }).toEqual({ links: before.links, programs: before.programs });
    await until(() => heldBy(daemon.process?.pid ?? 0).join() === before.held.join());
    expect(daemon.cli('status')).toMatch(/Ready: +Ok/);
  });
});
