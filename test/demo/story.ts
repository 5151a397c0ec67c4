// SPDX-License-Identifier: Apache-2.0
// What the demo does and checks, step by step. Makes nothing that the lab does not remove.
import { cpSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon, slices, vips } from '../support/lab/daemon.ts';
import { type Lab, nodeAddresses, outsideAddresses, podAddresses } from '../support/lab/lab.ts';
import type { ClientResult, ClientTask } from '../support/lab/peer.ts';
import { Client, Server, Streams } from '../support/lab/peers.ts';
import { sh } from '../support/lab/shell.ts';
import { bars, fact, heading, line, progress, seconds } from './account.ts';

const backends = [1, 2, 3];
const tcp: ClientTask = { protocol: 'tcp', address: vips.IPv4, port: 80, count: 300 };

export class Story {
  /** Checks that did not hold. */
  readonly failures: string[] = [];
  readonly #lab: Lab;
  readonly #daemon: Daemon;
  readonly #example: string;

  constructor(lab: Lab, example: string) {
    this.#lab = lab;
    this.#daemon = new Daemon(lab);
    this.#example = example;
  }

  async tell(): Promise<void> {
    line('Sluice: Services by BPF, on a node made of network namespaces (nothing outside them is touched).');
    await this.#makeNode();
    await this.#startDaemon();
    const client = await Client.start(this.#lab, 'pod9');
    const node = await Client.start(this.#lab, 'node');
    await this.#translate(client, node);
    this.#explain();
    await this.#changeLive(client);
    await this.#killAndRestart(client);
    await this.#translateAtConnect(client, node);
  }

  #check(is: boolean, claim: string): void {
    if (!is) this.failures.push(claim);
  }

  async #makeNode(): Promise<void> {
    heading('A node, a client pod and three backend pods, each in a network namespace of its own.');
    for (const number of [...backends, 9]) this.#lab.addPod(number);
    await progress(
      'starting servers',
      Promise.all(backends.map((number) => Server.start(this.#lab, { netns: `pod${number}`, name: `pod${number}` }))),
    );
    fact('pod1, pod2, pod3 answer TCP on 8080 and UDP on 5353 with their names; pod9 is the client');
  }

  async #startDaemon(): Promise<void> {
    heading('sluiced starts on a directory of YAML: one Service, two EndpointSlices (test/demo/example).');
    cpSync(this.#example, this.#daemon.source, { recursive: true });
    const began = performance.now();
    await progress('the verifier checks every path of every program', this.#daemon.start({ hasSocketLb: false }));
    const { ids, machineCode } = this.#loaded();
    fact(
      `ready after ${seconds(performance.now() - began)}: the verifier proved ${ids.length} programs safe on every path, the JIT turned them`,
    );
    fact(`into ${machineCode.toLocaleString('en')} bytes of machine code, and they hang on the pods' interfaces and the uplink`);
  }

  /** Programs that this lab's pinned links hold, as bpftool tells. */
  #loaded(): { hooks: number; ids: number[]; machineCode: number } {
    const directory = join(this.#lab.bpffs, 'sluice/links');
    const links = readdirSync(directory);
    const bpftool = <T>(...args: string[]): T => JSON.parse(sh('bpftool', '-j', ...args)) as T;
    const ids = [...new Set(links.map((name) => bpftool<{ prog_id: number }>('link', 'show', 'pinned', join(directory, name)).prog_id))];
    const sizes = ids.map((id) => bpftool<{ bytes_jited: number }>('prog', 'show', 'id', String(id)).bytes_jited);
    return { hooks: links.length, ids, machineCode: sizes.reduce((sum, size) => sum + size, 0) };
  }

  async #translate(client: Client, node: Client): Promise<void> {
    heading(`Requests to the Service's addresses, ${vips.IPv4} and ${vips.IPv6}: no process listens there.`);
    const first = await client.ask({ ...tcp, count: 1 });
    fact(`first answer from the Service after ${seconds(performance.now())} of this demo`);
    this.#checkAnswers(first, 1, 'the first request');
    const own = await Client.start(this.#lab, 'pod1');
    const outside = await Client.start(this.#lab, 'outside');
    const asks: [string, Client, ClientTask][] = [
      ['client pod, TCP, IPv4', client, tcp],
      ['client pod, UDP, IPv6', client, { protocol: 'udp', address: vips.IPv6, port: 53, count: 300 }],
      ['the node itself, TCP, IPv6', node, { ...tcp, address: vips.IPv6 }],
      ['a client outside, to NodePort 30080 of the node', outside, { ...tcp, address: nodeAddresses.IPv4, port: 30_080 }],
      [
        'pod1 to its own Service (itself among the backends), UDP, IPv4',
        own,
        { protocol: 'udp', address: vips.IPv4, port: 53, count: 300 },
      ],
    ];
    for (const [label, who, task] of asks) {
      const result = await progress(label, who.ask(task));
      bars(`${label}: ${task.count} requests, ${countOf(result.failures)} failed`, result.answers);
      this.#checkAnswers(result, task.count, label);
    }
    const rules = this.#lab.run('node', 'nft', 'list', 'ruleset').trim();
    this.#check(rules === '', 'nft list ruleset of the node is empty');
    fact(`nft list ruleset on the node: ${rules === '' ? 'empty' : rules}`);
  }

  #explain(): void {
    heading('Why? sluice explain asks the programs that run, and sends nothing.');
    const packets = [
      [`${podAddresses(9).IPv4}:4242`, `${vips.IPv4}:80`],
      [`${outsideAddresses.IPv4}:4242`, `${nodeAddresses.IPv4}:30080`],
      [`${podAddresses(9).IPv4}:4242`, `${vips.IPv4}:81`],
    ] as const;
    for (const [source, destination] of packets) {
      const text = this.#daemon.cli('explain', 'tcp', source, destination);
      fact(`sluice explain tcp ${source} ${destination}`);
      // Its first line says the packet again; the map entries make the lines long.
      for (const step of text.trimEnd().split('\n').slice(1)) fact(step.replace(/ {3}\[.*$/, ''));
      this.#check(/verdict +(DNAT|REJECT)/.test(text), `explain has a verdict for ${destination}`);
    }
  }

  #checkAnswers(result: ClientResult, count: number, label: string): void {
    this.#check(countOf(result.answers) === count && countOf(result.failures) === 0, `${label}: every request is answered`);
  }

  async #changeLive(client: Client): Promise<void> {
    heading('The YAML changes while requests run: pod3 leaves the EndpointSlices, then comes back.');
    this.#daemon.write('web-endpoints.yaml', ...this.#endpoints([1, 2]));
    await this.#daemon.settled((services) => services.every((service) => service.backends?.length === 2));
    const without = await client.ask(tcp);
    bars(`without pod3: ${countOf(without.failures)} failed`, without.answers);
    this.#check(without.answers['pod3'] === undefined && countOf(without.failures) === 0, 'pod3 gets no new request once it has left');
    const began = performance.now();
    this.#daemon.write('web-endpoints.yaml', ...this.#endpoints(backends));
    let asked = 0;
    let found = false;
    for (; !found && asked < 5000; asked += 5) {
      found = (await client.ask({ ...tcp, count: 5 })).answers['pod3'] !== undefined;
    }
    const took = performance.now() - began;
    this.#check(found, 'pod3 gets requests again');
    fact(`back: pod3 answered ${Math.round(took)} ms after its file was renamed into place (request ${asked} since then)`);
  }

  #endpoints(numbers: number[]): object[] {
    const ports = [
      { name: 'http', port: 8080, protocol: 'TCP' },
      { name: 'dns', port: 5353, protocol: 'UDP' },
    ];
    return slices('web', numbers).map((slice) => ({ ...slice, ports }));
  }

  async #killAndRestart(client: Client): Promise<void> {
    heading('kill -9 under traffic. Programs and maps are pinned in the kernel: nobody should notice.');
    const before = this.#loaded();
    const streams = await Streams.start(this.#lab, 'pod9', { address: vips.IPv4, tcp: 80, udp: 53 });
    const until = { isOver: false };
    const traffic = this.#steadyRequests(client, until);
    await this.#daemon.process?.kill('SIGKILL');
    const killed = performance.now();
    const pid = this.#daemon.process?.pid;
    await progress('no daemon, only the kernel', new Promise((resolve) => setTimeout(resolve, 2500)));
    const dead = performance.now() - killed;
    await progress('the next daemon takes over', this.#daemon.start({ hasSocketLb: false }));
    until.isOver = true;
    const { asked, failed } = await traffic;
    const { tcp: long, udp } = await progress('counting', streams.stop());
    const after = this.#loaded();
    fact(`pid ${pid} died; ${seconds(dead)} later pid ${this.#daemon.process?.pid} took over its ${before.hooks} hooks by link update`);
    fact(`new connections meanwhile     ${String(asked).padStart(6)} made      ${failed} failed`);
    fact(
      `one TCP connection, numbered  ${String(long.sent).padStart(6)} lines     ${long.sent - long.answered} lost, longest gap ${Math.round(long.longestGapMs)} ms`,
    );
    fact(
      `one UDP flow, numbered        ${String(udp.sent).padStart(6)} datagrams ${udp.sent - udp.answered} lost, longest gap ${Math.round(udp.longestGapMs)} ms`,
    );
    const lost = failed + long.sent - long.answered + udp.sent - udp.answered;
    this.#check(
      lost === 0 && long.error === '' && long.servers.length === 1,
      'nothing is lost while the daemon is dead and when the next takes over',
    );
    this.#check(after.hooks === before.hooks && after.ids.every((id) => !before.ids.includes(id)), 'every hook runs the new program');
    fact(`lost in all: ${lost}`);
  }

  async #steadyRequests(client: Client, until: { isOver: boolean }): Promise<{ asked: number; failed: number }> {
    const totals = { asked: 0, failed: 0 };
    while (!until.isOver) {
      const result = await client.ask({ ...tcp, count: 50, parallel: 4 });
      totals.asked += 50;
      totals.failed += countOf(result.failures);
    }
    return totals;
  }

  async #translateAtConnect(client: Client, node: Client): Promise<void> {
    heading('Restarted with --socket-lb on: connect() itself is translated, and packets carry pod addresses only.');
    await this.#daemon.process?.kill('SIGTERM');
    await progress('starting', this.#daemon.start({ hasSocketLb: true }));
    for (const [label, who] of [
      ['client pod', client],
      ['the node itself', node],
    ] as const) {
      const result = await who.ask(tcp);
      bars(
        `${label}, TCP, IPv4: getpeername() says ${Object.keys(result.peers).join(', ')}; ${countOf(result.failures)} failed`,
        result.answers,
      );
      this.#checkAnswers(result, tcp.count, `socket translation, ${label}`);
    }
    heading('sluice status, in its own words:');
    const status = readStatus(this.#daemon);
    for (const text of status) fact(text);
    this.#check(
      status.every((text) => !text.includes('Degraded')),
      'sluice status is well',
    );
  }
}

const countOf = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((sum, count) => sum + count, 0);

/** The first block: one line for each part of the agent. */
const readStatus = (daemon: Daemon): string[] => daemon.cli('status').split('\n\n')[0]?.split('\n') ?? [];
