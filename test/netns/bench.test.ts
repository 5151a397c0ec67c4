// SPDX-License-Identifier: Apache-2.0
// Tests that the tools of the benchmark measure what its rows say: connect() with and without a sleep, and the run time of the program
// that each row names. Also tests how a lab process is asked: answers come on stdout only, and each question has a time limit.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compile } from '../bench/harness.ts';
import { type Connects, steer } from '../bench/node.ts';
import { SituBench } from '../bench/situ-rows.ts';
import { type Kind, SituNode, traffics, type Traffic } from '../bench/situ/node.ts';
import { Lab, podAddresses } from '../support/lab/lab.ts';

let lab: Lab;
let directory: string;
let peer: string;
let server: number;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  peer = compile('peer.c', directory);
  lab = new Lab();
  for (const number of [1, 9]) lab.addPod(number);
  const started = lab.start('pod1', [peer, 'serve-tcp', '8080']);
  await started.line((line) => line === 'ready');
  server = started.pid;
});

afterAll(async () => {
  await lab.close();
  rmSync(directory, { recursive: true });
});

async function connects(ms: number): Promise<[Connects, Connects]> {
  const to = `${podAddresses(1).IPv4}:8080`;
  const client = lab.start('pod9', [peer, 'connect', String(ms), String(server), to, to]);
  const answer = await client.line((line) => line.startsWith('['));
  await client.ended;
  return JSON.parse(answer) as [Connects, Connects];
}

test('both sides get the same number of connections, and every connection has a mode and CPU time', async () => {
  const [one, other] = await connects(300);
  // The client makes 64 connections to one side, then 64 connections to the other.
  expect(Math.abs(one.count - other.count)).toBeLessThanOrEqual(64);
  for (const side of [one, other]) {
    expect(side.failures).toBe(0);
    expect(side.count).toBeGreaterThan(0);
    expect(side.inside.count + side.slept.count).toBe(side.count);
    expect(side.clientNs).toBeGreaterThan(0);
    expect(side.serverNs).toBeGreaterThan(0);
    expect(side.clientNs).toBeLessThanOrEqual(side.seconds * 1e9);
  }
});

test('connect() sleeps if another CPU handles the SYN-ACK, and the connection is counted as one that slept', async () => {
  const share = ([one]: readonly [Connects, Connects]): number => one.slept.count / one.count;
  const before = share(await connects(300));
  steer(lab, 'pod9', 'second');
  const steered = await connects(300).finally(() => steer(lab, 'pod9', 'sender'));
  expect(before).toBeLessThan(0.5);
  expect(share(steered)).toBeGreaterThan(0.5);
});

test('ask() ignores stderr, fails after its time limit, and fails with the last lines of a process that has ended', async () => {
  const script = 'read a; echo warning >&2; sleep 0.2; echo "got $a"; read b; sleep 2; echo late; read c; echo reason >&2; exit 3';
  const each = lab.start('node', ['sh', '-c', script]);
  expect(await each.ask('this')).toBe('got this');
  await expect(each.ask('slow', 200)).rejects.toThrow('the line did not appear within 200 ms');
  await each.line((line) => line === 'late');
  await expect(each.ask('last')).rejects.toThrow(/the process ended; its last lines are:[^]*reason/);
});

test.for(['sluice', 'floor'] as const)(
  'in situ, %s: the program of every row runs for each connection of its traffic',
  async (kind: Kind) => {
    const node = new SituNode(kind, 50);
    const { rows } = new SituBench();
    try {
      const paths = { flows: compile('flows.c', directory), yardstick: compile('yardstick.bpf.c', directory) };
      await node.open(paths, new Set(Object.keys(traffics) as Traffic[]));
      for (const { traffic, hook } of rows) {
        // round() throws if the program did not run for each connection, or if a connection was not answered.
        const found = await node.round(traffic, [hook]);
        expect(found[hook].mean, `${traffic} ${hook}`).toBeGreaterThan(0);
      }
    } finally {
      await node.close();
    }
  },
);
