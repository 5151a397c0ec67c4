// SPDX-License-Identifier: Apache-2.0
// The abuse part of `npm run stress`: for three minutes, one daemon is disturbed in several ways at the same time, by abusive clients, by
// changes of devices and pins, and by its source. Meanwhile a pod calls a Service, and the Service changes. The load runs on the first
// CPU, the daemon on the last. The daemon must answer health probes in time, program changes in time and lose no request, and its memory
// must not grow. Each minute contains the same disturbances at the same times, so that the memory of two minutes can be compared.
// `--source` is files or kubernetes. The test must never change anything outside its lab.
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { BpfMap, openPin } from '../../daemon/kernel/map.ts';
import { kernelMaps } from '../../daemon/maps/kernel-maps.ts';
import type { LbMaps } from '../../daemon/maps/types.ts';
import type { RawObject } from '../support/double/objects.ts';
import { type Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab, nodeAddresses, podAddresses } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';
import { attempt, sh } from '../support/lab/shell.ts';
import type { Abuse } from './abuser.ts';
import { hostileFiles } from './hostile-files.ts';
import { openPlace, type Place } from './places.ts';
import type { Probes } from './prober.ts';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '3' }, source: { type: 'string', default: 'files' } },
});
const MINUTE_MS = 60_000;
const minutes = Number(values.minutes);

// The limits that the daemon must not exceed.
const HEALTH_P99_MS = 100;
const HEALTH_WORST_MS = 500;
const CHANGE_MS = 1000;
/**
 * Time without a watch after a disturbance of the API server. The daemon waits for up to a minute before it asks a server again that has
 * sent more than the limits allow, but not after the SIGHUP that follows each disturbance.
 */
const RECONNECT_MS = 5000;
const GROWTH = 1.05;

/** Open files of the daemon: fewer than the connections that the abusers open. */
const DESCRIPTORS = 1024;
const HTTP_PORT = 9880;
const HEALTH_PORT = 10_256;
const CHANGE_EVERY_MS = 2000;
/** A change that takes longer counts as lost. */
const CHANGE_TIMEOUT_MS = 30_000;
const TROUBLE_EVERY_MS = 3000;
const RSS_EVERY_MS = 500;
const BACKENDS = [
  [1, 2],
  [3, 4],
] as const;
const TCP = 6;
const firstCpu = '0';
const lastCpu = String(availableParallelism() - 1);

const percentile = (numbers: readonly number[], share: number): number =>
  numbers.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(share * numbers.length) - 1)] ?? Number.NaN;
const median = (numbers: readonly number[]): number => percentile(numbers, 0.5);
const rssMiB = (pid: number): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
const pinTo = (cpu: string, pid: number): string => sh('taskset', '--all-tasks', '--pid', '--cpu-list', cpu, String(pid));

/** Resident memory of the daemon in a minute, in MiB. */
interface Memory {
  readonly least: number;
  readonly median: number;
  readonly most: number;
}

class Abused {
  readonly #lab: Lab;
  readonly #place: Place;
  readonly #daemon: Daemon;
  readonly #faults: string[] = [];
  /** How often the abuse has broken the watches of the API server. */
  #brokenWatches = 0;
  #isOver = false;

  constructor(lab: Lab, place: Place) {
    this.#lab = lab;
    this.#place = place;
    this.#daemon = place.daemon;
  }

  /** Returns one line for each condition that was not met. */
  async run(): Promise<readonly string[]> {
    // The daemon is the only process on the last CPU.
    pinTo(firstCpu, process.pid);
    await this.#start();
    const client = await Client.start(this.#lab, 'pod9');
    const probers = [
      { name: '--http', process: this.#node('prober.ts', nodeAddresses.IPv4, String(HTTP_PORT), String(this.#pid), 'metrics') },
      { name: '--healthz-bind-address', process: this.#node('prober.ts', '127.0.0.1', String(HEALTH_PORT), String(this.#pid)) },
    ];
    await this.#abuse();
    const work = [this.#callService(client), this.#changeService(), this.#troubleDevices(), this.#troublePins(), this.#troubleSource()];
    const memory: Memory[] = [];
    for (let minute = 1; minute <= minutes; minute += 1) memory.push(await this.#memoryOfMinute());
    this.#isOver = true;
    await Promise.all(work);
    for (const { name, process: prober } of probers) this.#judgeProbes(name, JSON.parse(await prober.ask('end')) as Probes);
    this.#judgeMemory(memory);
    console.log(
      `${cpuText(this.#pid)}; load ${loadavg()
        .map((each) => each.toFixed(1))
        .join(', ')}`,
    );
    return this.#faults;
  }

  async #start(): Promise<void> {
    for (const number of [1, 2, 3, 4, 5, 9]) this.#lab.addPod(number);
    await Promise.all([1, 2, 3, 4].map((number) => Server.start(this.#lab, { netns: `pod${number}`, name: `pod${number}` })));
    await this.#set(0);
    const addresses = ['--http', `${nodeAddresses.IPv4}:${HTTP_PORT}`, '--healthz-bind-address', `0.0.0.0:${HEALTH_PORT}`];
    const extra = [...addresses, '--log-level', 'info', '--sync-period', '1s'];
    await this.#daemon.start({ hasSocketLb: false, isTuned: true, extra });
    pinTo(lastCpu, this.#pid);
    sh('prlimit', `--nofile=${DESCRIPTORS}:${DESCRIPTORS}`, '--pid', String(this.#pid));
  }

  get #pid(): number {
    return this.#daemon.process?.pid ?? 0;
  }

  #node(script: string, ...args: readonly string[]) {
    return this.#lab.start('node', [process.execPath, join(import.meta.dirname, script), ...args]);
  }

  /** Starts the abusers: two on the API socket, the others outside the node. */
  async #abuse(): Promise<void> {
    const abuser = async (netns: string, abuse: Abuse, ...args: readonly string[]): Promise<void> => {
      const command = ['nice', '-n', '5', process.execPath, join(import.meta.dirname, 'abuser.ts'), abuse, ...args];
      const started = this.#lab.start(netns, command);
      await started.line((line) => line === 'ready');
    };
    await abuser('node', 'unreadCalls', this.#daemon.socket);
    await abuser('node', 'explainCalls', this.#daemon.socket, vips.IPv4);
    await abuser('outside', 'pipelinedRequests', nodeAddresses.IPv4, String(HTTP_PORT));
    for (const port of [HTTP_PORT, HEALTH_PORT]) {
      await abuser('outside', 'idleConnections', nodeAddresses.IPv4, String(port));
      await abuser('outside', 'slowConnections', nodeAddresses.IPv4, String(port));
    }
  }

  async #callService(client: Client): Promise<void> {
    let answered = 0;
    while (!this.#isOver) {
      const task = { protocol: 'tcp', address: vips.IPv4, port: 80, count: 1e6, parallel: 2, forMs: 1000 } as const;
      const { answers, failures } = await client.ask(task);
      answered += Object.values(answers).reduce((sum, count) => sum + count, 0);
      for (const [reason, count] of Object.entries(failures)) this.#faults.push(`${count} requests failed: ${reason}`);
    }
    console.log(`requests through the Service: ${answered}`);
    if (answered === 0) this.#faults.push('no request was answered');
  }

  async #set(turn: number): Promise<readonly number[]> {
    const pods = BACKENDS[turn % BACKENDS.length] ?? [];
    await this.#place.set(0, [service('web'), ...slices('web', pods)] as RawObject[]);
    return pods;
  }

  /**
   * Changes the backends, and waits until the maps have them. The time counts from the moment at which the daemon can know the change: if
   * the abuse has broken the watch, from the moment at which the daemon watches again, for which it has a time limit of its own.
   */
  async #changeService(): Promise<void> {
    const maps = kernelMaps((name) => {
      const fd = openPin(join(this.#lab.bpffs, 'sluice/maps', name));
      if (fd === undefined) throw new Error(`the map ${name} is not pinned`);
      return new BpfMap(fd);
    });
    const delays: number[] = [];
    const reconnects: number[] = [];
    for (let turn = 1; !this.#isOver; turn += 1) {
      const began = performance.now();
      const wanted = (await this.#set(turn)).map((number) => podAddresses(number).IPv4).join();
      const written = performance.now();
      let known = 0;
      for (let broken = -1; backendsOf(maps) !== wanted && performance.now() - written < CHANGE_TIMEOUT_MS; await pause(5)) {
        if (broken === this.#brokenWatches) continue;
        broken = this.#brokenWatches;
        const before = performance.now();
        await this.#place.delivers();
        known = performance.now();
        reconnects.push(known - before);
      }
      delays.push(performance.now() - Math.max(known, written));
      await pause(Math.max(0, CHANGE_EVERY_MS - (performance.now() - began)));
    }
    console.log(`changes: ${delays.length}, ${timesText(delays)}`);
    const late = delays.filter((delay) => delay > CHANGE_MS).length;
    if (late > 0) this.#faults.push(`${late} of ${delays.length} changes took longer than ${CHANGE_MS} ms`);
    if (values.source === 'files') return;
    console.log(`time until the daemon watched again: ${timesText(reconnects)}`);
    if (!(Math.max(...reconnects) <= RECONNECT_MS)) this.#faults.push(`the daemon did not watch again within ${RECONNECT_MS} ms`);
  }

  /** Adds and removes pods and addresses of the node. */
  async #troubleDevices(): Promise<void> {
    while (!this.#isOver) {
      this.#lab.ip('node', 'link', 'add', 'lxcabuse', 'type', 'veth', 'peer', 'name', 'abusepeer');
      this.#lab.ip('node', 'address', 'add', '10.0.77.1/32', 'dev', 'lxcabuse');
      await pause(50);
      this.#lab.ip('node', 'link', 'delete', 'lxcabuse');
      await pause(150);
    }
  }

  /** Detaches and unpins the programs of a pod that no client uses. */
  async #troublePins(): Promise<void> {
    const links = join(this.#lab.bpffs, 'sluice/links');
    const [device] = JSON.parse(this.#lab.ip('node', '-json', 'link', 'show', 'lxc5')) as [{ readonly ifindex: number }];
    const { ifindex } = device;
    for (let turn = 0; !this.#isOver; turn += 1) {
      const pin = join(links, `tc_pod_in-${ifindex}`);
      if (turn % 2 === 0) attempt('bpftool', 'link', 'detach', 'pinned', pin);
      else if (existsSync(pin)) rmSync(pin);
      await pause(TROUBLE_EVERY_MS);
    }
    await pause(TROUBLE_EVERY_MS);
    const pinned = readdirSync(links);
    if (!pinned.includes(`tc_pod_in-${ifindex}`)) this.#faults.push('tc_pod_in of lxc5 was not pinned again');
  }

  async #troubleSource(): Promise<void> {
    const { source } = this.#daemon;
    const began = performance.now();
    /** The disturbances of one minute: each file once, or the faults of the API server several times. */
    const everyMs = values.source === 'kubernetes' ? TROUBLE_EVERY_MS : MINUTE_MS / hostileFiles.length;
    const until = (ms: number): Promise<void> => pause(Math.max(0, began + ms - performance.now()));
    for (let turn = 0; !this.#isOver; turn += 1) {
      const [name, text] = hostileFiles[turn % hostileFiles.length] ?? ['', () => ''];
      if (values.source === 'kubernetes') {
        await this.#place.disturb(1, [], turn);
        this.#brokenWatches += 1;
      } else {
        writeFileSync(join(source, '.partial'), text());
        renameSync(join(source, '.partial'), join(source, name));
      }
      await until((turn + 0.5) * everyMs);
      if (values.source === 'files') rmSync(join(source, name));
      // The daemon reads everything again, and asks the API server again without waiting for its back-off.
      this.#daemon.process?.signal('SIGHUP');
      await until((turn + 1) * everyMs);
    }
  }

  async #memoryOfMinute(): Promise<Memory> {
    const samples: number[] = [];
    for (const end = performance.now() + MINUTE_MS; performance.now() < end; await pause(RSS_EVERY_MS)) samples.push(rssMiB(this.#pid));
    return { least: Math.min(...samples), median: median(samples), most: Math.max(...samples) };
  }

  /**
   * Compares the medians of the last two minutes. A single value says little: it contains garbage that V8 has not collected yet, and up to
   * 60 MiB of it belong to the largest files, which the directory contains for 4 s of each minute.
   */
  #judgeMemory(memory: readonly Memory[]): void {
    const text = ({ least, median: middle, most }: Memory): string => `${middle.toFixed(1)} (${least.toFixed(1)} to ${most.toFixed(1)})`;
    console.log(`RSS of each minute, median (least to most), MiB: ${memory.map(text).join(', ')}`);
    const [before, last] = memory.slice(-2);
    if (before === undefined || last === undefined) return;
    const percent = (last.median / before.median - 1) * 100;
    if (!(last.median <= before.median * GROWTH)) this.#faults.push(`RSS grew by ${percent.toFixed(1)} % in the last minute`);
  }

  #judgeProbes(name: string, { latencies, ofDaemon, failures, loop }: Probes): void {
    const [p99, worst] = [percentile(latencies, 0.99), Math.max(...latencies)];
    const failed = Object.values(failures).reduce((sum, count) => sum + count, 0);
    console.log(`/healthz on ${name}: ${latencies.length} probes, ${timesText(latencies)}, ${failed} failed`);
    console.log(`  without the time that daemon and prober waited for their CPUs: ${timesText(ofDaemon)}`);
    const delays = Object.entries(loop).map(([quantile, seconds]) => `${quantile}: ${(seconds * 1000).toFixed(1)} ms`);
    if (delays.length > 0) console.log(`delay of the event loop by quantile: ${delays.join(', ')}`);
    if (!(p99 <= HEALTH_P99_MS)) this.#faults.push(`/healthz on ${name}: p99 is more than ${HEALTH_P99_MS} ms`);
    if (!(worst <= HEALTH_WORST_MS)) this.#faults.push(`/healthz on ${name}: the worst probe took more than ${HEALTH_WORST_MS} ms`);
    for (const [reason, count] of Object.entries(failures)) this.#faults.push(`/healthz on ${name}: ${count} probes failed: ${reason}`);
  }
}

const timesText = (times: readonly number[]): string =>
  [['p50', 0.5] as const, ['p99', 0.99] as const, ['worst', 1] as const]
    .map(([name, share]) => `${name} ${percentile(times, share).toFixed(1)} ms`)
    .join(', ');

/** What the scheduler of the kernel gave to the main thread of the process. It waits while another thread runs on its CPU. */
function cpuText(pid: number): string {
  const [ran = 0, waited = 0] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ').map(Number);
  return `main thread of the daemon: ran ${(ran / 1e9).toFixed(1)} s, waited ${(waited / 1e9).toFixed(1)} s for its CPU`;
}

/** Returns the backends of the Service "web" that the kernel has for TCP over IPv4, in order. */
function backendsOf(maps: LbMaps): string {
  const frontend = maps.frontends.IPv4.get({ address: vips.IPv4, port: 80, protocol: TCP });
  if (frontend === undefined) return '';
  const { base, count } = maps.services.get(frontend.service);
  return maps.slots
    .read(base, count)
    .map((id) => maps.backends.IPv4.get(id).address)
    .toSorted()
    .join();
}

if (values.source !== 'files' && values.source !== 'kubernetes') throw new Error('--source must be files or kubernetes.');
const lab = new Lab();
try {
  const faults = await new Abused(lab, await openPlace(values.source, lab)).run();
  for (const fault of faults) console.log(`FAULT: ${fault}`);
  process.exitCode = faults.length === 0 ? 0 : 1;
} finally {
  await lab.close();
}
