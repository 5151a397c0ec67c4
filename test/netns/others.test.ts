// SPDX-License-Identifier: Apache-2.0
// Programs of other owners on the hooks that Sluice uses. They must see every packet, with the addresses of client and backend: what they deny
// is denied with Sluice as without it, directly and through a Service, and what they allow works. Sluice keeps its place, and the status names
// what may hide packets from it.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { tcxPrograms } from '../../daemon/kernel/link.ts';
import { inNetns } from '../support/kernel.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Foreign } from '../support/lab/foreign.ts';
import { Lab, nodeAddresses, podAddresses } from '../support/lab/lab.ts';
import { Client, Numbers, Server } from '../support/lab/peers.ts';

const COUNT = 20;
/** The ways to pod1. */
const ways = [
  { way: 'directly', address: podAddresses(1).IPv4, port: 5353 },
  { way: 'ClusterIP', address: vips.IPv4, port: 53 },
  { way: 'NodePort', address: nodeAddresses.IPv4, port: 30_053 },
];

let lab: Lab;
let daemon: Daemon;
let foreign: Foreign;
let client: Client;
let other: Client;

beforeEach(async () => {
  lab = new Lab();
  for (const number of [1, 9]) lab.addPod(number);
  await Promise.all([1, 9].map((number) => Server.start(lab, { netns: `pod${number}`, name: `pod${number}` })));
  daemon = new Daemon(lab);
  daemon.write(
    'web.yaml',
    service('web', vips, { spec: { type: 'NodePort' }, nodePorts: { web: 30_080, dns: 30_053 } }),
    ...slices('web', [1]),
  );
  foreign = new Foreign();
  [client, other] = await Promise.all([Client.start(lab, 'pod9'), Client.start(lab, 'pod1')]);
});

afterEach(async () => {
  foreign.close();
  await lab.close();
});

// Without socket translation, every packet to a Service needs the tc programs.
const start = (): Promise<void> => daemon.start({ hasSocketLb: false, extra: ['--sync-period', '300ms'] });
const ifindexOf = (dev: string): number =>
  (JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', dev)) as { ifindex: number }[])[0]?.ifindex ?? 0;
const onNode = <T>(work: () => T): T => inNetns(`/run/netns/${lab.netns('node')}`, work);
const attach = (name: Parameters<Foreign['attach']>[0], dev: string, at: { isIngress: boolean; place: 'first' | 'last' }): (() => void) => {
  const ifindex = ifindexOf(dev);
  return onNode(() => foreign.attach(name, { ...at, ifindex }));
};
const filter = (name: Parameters<Foreign['filter']>[0], dev: string, direction: 'ingress' | 'egress'): void =>
  onNode(() => foreign.filter(name, { dev, direction, bpffs: lab.bpffs }));
const repaired = (text: string, from = 0): Promise<string> =>
  daemon.process?.line((line) => line.includes('repaired: ') && line.includes(text), from) ??
  Promise.reject(new Error('The daemon is not running.'));

/** Number of answers to COUNT datagrams. */
async function answers(from: Client, to: { address: string; port: number }): Promise<number> {
  const task = { protocol: 'udp', count: COUNT, parallel: COUNT, timeoutMs: 500 } as const;
  const result = await from.ask({ ...task, address: to.address, port: to.port });
  return Object.values(result.answers).reduce((sum, count) => sum + count, 0);
}

/** Number of answers from pod1 to pod9, by way. */
async function answersByWay(): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const { way, ...to } of ways) found[way] = await answers(client, to);
  return found;
}
const all = { directly: COUNT, ClusterIP: COUNT, NodePort: COUNT };
const none = { directly: 0, ClusterIP: 0, NodePort: 0 };
/** Number of answers from pod9 to pod1. */
const answersBack = (): Promise<number> => answers(other, { address: podAddresses(9).IPv4, port: 5353 });

/** TCP of both families through the Service is answered. */
async function serves(): Promise<void> {
  for (const address of Object.values(vips)) {
    const result = await client.ask({ protocol: 'tcp', address, port: 80, count: COUNT });
    expect(result).toMatchObject({ failures: {}, peers: { [`${address}:80`]: COUNT } });
  }
}

describe.each([{ when: 'before Sluice starts' }, { when: 'while Sluice runs' }])('filters that are added $when', ({ when }) => {
  const begin = async (add: () => void): Promise<void> => {
    if (when === 'before Sluice starts') add();
    await start();
    if (when === 'before Sluice starts') return;
    const from = daemon.process?.lines.length ?? 0;
    add();
    await repaired('moved behind the filter', from);
  };

  test('a policy without state denies what it denies without Sluice', async () => {
    await begin(() => {
      filter('foreign_no_udp', 'lxc9', 'ingress');
      filter('foreign_count', 'lxc9', 'egress');
    });
    expect(await answersByWay()).toEqual(none);
    expect(await answersBack()).toBe(0);
    // The datagrams of pod1 reach pod9; the answers of pod9 are denied.
    expect(foreign.seen()).toBe(COUNT);
    await serves();
    expect(daemon.cli('status')).toMatch(/^Programs: +Ok +6 attached \(5 tcx, 1 clsact\)$/m);
    expect(daemon.cli('status')).toContain('the filter foreign_count_lxc9_egress runs before tc_pod_out on lxc9: it may end the chain');
  });

  test('a policy with state lets in only answers to what it saw go out', async () => {
    await begin(() => {
      filter('foreign_note', 'lxc9', 'ingress');
      filter('foreign_answers', 'lxc9', 'egress');
    });
    expect(await answersByWay()).toEqual(all);
    expect(await answersBack()).toBe(0);
    await serves();
  });

  test('a policy with state at the backend denies requests, also with another source than the client', async () => {
    await begin(() => {
      filter('foreign_note', 'lxc1', 'ingress');
      filter('foreign_answers', 'lxc1', 'egress');
    });
    expect(await answersByWay()).toEqual(none);
    expect(await answersBack()).toBe(COUNT);
    await serves();
  });
});

describe.each([{ place: 'first' }, { place: 'last' }] as const)('a TCX program that is attached at the place $place', ({ place }) => {
  test.for([{ when: 'before Sluice starts' }, { when: 'while Sluice runs' }])('sees every packet, attached $when', async ({ when }) => {
    const add = (): void => {
      attach('foreign_count', 'lxc9', { isIngress: true, place });
      attach('foreign_count', 'lxc9', { isIngress: false, place });
    };
    if (when === 'before Sluice starts') add();
    await start();
    if (when === 'while Sluice runs') add();
    const before = foreign.seen();
    expect(await answersByWay()).toEqual(all);
    // Requests at ingress, answers at egress.
    expect(foreign.seen() - before).toBe(ways.length * 2 * COUNT);
    await serves();
  });

  test('denies what it denies without Sluice', async () => {
    await start();
    attach('foreign_no_udp', 'lxc9', { isIngress: true, place });
    expect(await answersByWay()).toEqual(none);
    await serves();
  });
});

test('a program that takes the place of Sluice loses it without a lost packet, and at the second time only the status changes', async () => {
  await start();
  const ifindex = ifindexOf('lxc9');
  const order = (): number[] => onNode(() => tcxPrograms(ifindex, true));
  const [own = 0] = order();
  const numbers = await Numbers.start(lab, 'pod9', { address: vips.IPv4, port: 53, least: 2000 });
  const detach = attach('foreign_count', 'lxc9', { isIngress: true, place: 'first' });
  expect(order()[1]).toBe(own);
  await repaired('tc_pod_in on lxc9: moved before foreign_count');
  expect(order()).toEqual([own, expect.any(Number)]);
  const { sent, lost, servers } = await numbers.stop();
  expect({ lost, servers }).toEqual({ lost: 0, servers: { pod1: sent } });
  expect(daemon.cli('status')).toMatch(/^Programs: +Ok /m);
  detach();
  attach('foreign_note', 'lxc9', { isIngress: true, place: 'first' });
  await expect.poll(() => daemon.cli('status'), { timeout: 10_000 }).toMatch(/^Programs: +Warning /m);
  expect(daemon.cli('status')).toContain(
    'the program foreign_note runs before tc_pod_in on lxc9: it sees packets before they are translated',
  );
  expect(order()[1]).toBe(own);
  await serves();
});
