// SPDX-License-Identifier: Apache-2.0
// The steps of the demo, and the check of each claim that a step prints. The lab creates everything that the demo needs and
// removes it at the end. main.ts runs the steps.
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
  /** Claims whose check failed. */
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
    line('This demo runs Sluice, a BPF implementation of Kubernetes Services, on a node made of network namespaces.');
    line('It changes nothing outside these namespaces.');
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
    heading('The demo makes a node, a client pod and three backend pods, each in its own network namespace.');
    for (const number of [...backends, 9]) this.#lab.addPod(number);
    await progress(
      'starting servers',
      Promise.all(backends.map((number) => Server.start(this.#lab, { netns: `pod${number}`, name: `pod${number}` }))),
    );
    fact('pod1, pod2 and pod3 answer with their names on TCP port 8080 and UDP port 5353. pod9 is the client.');
  }

  async #startDaemon(): Promise<void> {
    heading('sluiced starts and reads one Service and two EndpointSlices from YAML files (test/demo/example).');
    cpSync(this.#example, this.#daemon.source, { recursive: true });
    const began = performance.now();
    await progress('the verifier checks all programs', this.#daemon.start({ hasSocketLb: false }));
    const { ids, machineCode } = this.#loaded();
    fact(
      `sluiced was ready after ${seconds(performance.now() - began)}. The verifier accepted ${ids.length} programs, and the JIT compiled them`,
    );
    fact(`to ${machineCode.toLocaleString('en')} bytes of machine code. They are attached to the pod interfaces and to the uplink.`);
  }

  /** The programs of this lab's pinned links, as bpftool reports them. */
  #loaded(): { hooks: number; ids: number[]; machineCode: number } {
    const directory = join(this.#lab.bpffs, 'sluice/links');
    const links = readdirSync(directory);
    const bpftool = <T>(...args: string[]): T => JSON.parse(sh('bpftool', '-j', ...args)) as T;
    const ids = [...new Set(links.map((name) => bpftool<{ prog_id: number }>('link', 'show', 'pinned', join(directory, name)).prog_id))];
    const sizes = ids.map((id) => bpftool<{ bytes_jited: number }>('prog', 'show', 'id', String(id)).bytes_jited);
    return { hooks: links.length, ids, machineCode: sizes.reduce((sum, size) => sum + size, 0) };
  }

  async #translate(client: Client, node: Client): Promise<void> {
    heading(`Clients send requests to the Service addresses ${vips.IPv4} and ${vips.IPv6}. No process listens there.`);
    const first = await client.ask({ ...tcp, count: 1 });
    fact(`The demo received its first answer from the Service after ${seconds(performance.now())}.`);
    this.#checkAnswers(first, 1, 'the first request');
    const own = await Client.start(this.#lab, 'pod1');
    const outside = await Client.start(this.#lab, 'outside');
    const asks: [string, Client, ClientTask][] = [
      ['client pod, TCP, IPv4', client, tcp],
      ['client pod, UDP, IPv6', client, { protocol: 'udp', address: vips.IPv6, port: 53, count: 300 }],
      ['the node itself, TCP, IPv6', node, { ...tcp, address: vips.IPv6 }],
      ['a client outside the cluster, to NodePort 30080 of the node', outside, { ...tcp, address: nodeAddresses.IPv4, port: 30_080 }],
      [
        'pod1 to its own Service (pod1 is one of the backends), UDP, IPv4',
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
    this.#check(rules === '', 'The nftables ruleset of the node is empty.');
    fact(`The nftables ruleset of the node is ${rules === '' ? 'empty.' : `not empty: ${rules}`}`);
  }

  #explain(): void {
    heading('sluice explain shows what happens to a packet. It runs the BPF programs on the packet and sends nothing.');
    const packets = [
      [`${podAddresses(9).IPv4}:4242`, `${vips.IPv4}:80`],
      [`${outsideAddresses.IPv4}:4242`, `${nodeAddresses.IPv4}:30080`],
      [`${podAddresses(9).IPv4}:4242`, `${vips.IPv4}:81`],
    ] as const;
    for (const [source, destination] of packets) {
      const text = this.#daemon.cli('explain', 'tcp', source, destination);
      fact(`sluice explain tcp ${source} ${destination}`);
      // The first line, which repeats the packet, and the map entries, which make the lines long, are omitted.
      for (const step of text.trimEnd().split('\n').slice(1)) fact(step.replace(/ {3}\[.*$/, ''));
      this.#check(/verdict +(DNAT|REJECT)/.test(text), `sluice explain gives a verdict for ${destination}.`);
    }
  }

  #checkAnswers(result: ClientResult, count: number, label: string): void {
    this.#check(countOf(result.answers) === count && countOf(result.failures) === 0, `Every request is answered: ${label}.`);
  }

  async #changeLive(client: Client): Promise<void> {
    heading('The YAML files change while clients send requests: pod3 is removed from the EndpointSlices and added again.');
    this.#daemon.write('web-endpoints.yaml', ...this.#endpoints([1, 2]));
    await this.#daemon.settled((services) => services.every((service) => service.backends?.length === 2));
    const without = await client.ask(tcp);
    bars(`without pod3: ${tcp.count} requests, ${countOf(without.failures)} failed`, without.answers);
    this.#check(
      without.answers['pod3'] === undefined && countOf(without.failures) === 0,
      'pod3 receives no new request after its removal.',
    );
    const began = performance.now();
    this.#daemon.write('web-endpoints.yaml', ...this.#endpoints(backends));
    let asked = 0;
    let found = false;
    for (; !found && asked < 5000; asked += 5) {
      found = (await client.ask({ ...tcp, count: 5 })).answers['pod3'] !== undefined;
    }
    const took = performance.now() - began;
    this.#check(found, 'pod3 gets requests again');
    fact(`pod3 answered again ${Math.round(took)} ms after the file was replaced. The client had sent ${asked} requests by then.`);
  }

  #endpoints(numbers: number[]): object[] {
    const ports = [
      { name: 'http', port: 8080, protocol: 'TCP' },
      { name: 'dns', port: 5353, protocol: 'UDP' },
    ];
    return slices('web', numbers).map((slice) => ({ ...slice, ports }));
  }

  async #killAndRestart(client: Client): Promise<void> {
    heading('sluiced is killed with SIGKILL while traffic runs. Programs and maps are pinned in the kernel, so no client is affected.');
    const before = this.#loaded();
    const streams = await Streams.start(this.#lab, 'pod9', { address: vips.IPv4, tcp: 80, udp: 53 });
    const until = { isOver: false };
    const traffic = this.#steadyRequests(client, until);
    await this.#daemon.process?.kill('SIGKILL');
    const killed = performance.now();
    const pid = this.#daemon.process?.pid;
    await progress('sluiced is not running; the kernel forwards traffic', new Promise((resolve) => setTimeout(resolve, 2500)));
    const dead = performance.now() - killed;
    await progress('the next sluiced starts', this.#daemon.start({ hasSocketLb: false }));
    until.isOver = true;
    const { asked, failed } = await traffic;
    const { tcp: long, udp } = await progress('stopping the clients and counting', streams.stop());
    const after = this.#loaded();
    fact(`The process with PID ${pid} was killed. After ${seconds(dead)} a new process with PID ${this.#daemon.process?.pid} started.`);
    fact(`It replaced the programs of all ${before.hooks} links without detaching them.`);
    fact(`new connections               ${String(asked).padStart(6)} made      ${failed} failed`);
    fact(
      `lines over one TCP connection ${String(long.sent).padStart(6)} sent      ${long.sent - long.answered} lost, longest gap ${Math.round(long.longestGapMs)} ms`,
    );
    fact(
      `datagrams of one UDP flow     ${String(udp.sent).padStart(6)} sent      ${udp.sent - udp.answered} lost, longest gap ${Math.round(udp.longestGapMs)} ms`,
    );
    const lost = failed + long.sent - long.answered + udp.sent - udp.answered;
    this.#check(
      lost === 0 && long.error === '' && long.servers.length === 1,
      'No message is lost while sluiced is not running and while the next one starts.',
    );
    this.#check(after.hooks === before.hooks && after.ids.every((id) => !before.ids.includes(id)), 'Every link runs a new program.');
    fact(`Connections and messages lost in total: ${lost}`);
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
    heading('sluiced restarts with --socket-lb on. It translates in connect(), so packets carry only pod addresses.');
    await this.#daemon.process?.kill('SIGTERM');
    await progress('sluiced starts', this.#daemon.start({ hasSocketLb: true }));
    for (const [label, who] of [
      ['client pod', client],
      ['the node itself', node],
    ] as const) {
      const result = await who.ask(tcp);
      bars(
        `${label}, TCP, IPv4: getpeername() returns ${Object.keys(result.peers).join(', ')}; ${countOf(result.failures)} failed`,
        result.answers,
      );
      this.#checkAnswers(result, tcp.count, `with socket translation, ${label}`);
    }
    heading('sluice status prints:');
    const status = readStatus(this.#daemon);
    for (const text of status) fact(text);
    this.#check(
      status.every((text) => !text.includes('Degraded')),
      'sluice status reports nothing as Degraded.',
    );
  }
}

const countOf = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((sum, count) => sum + count, 0);

/** The first block of the status, which has one line for each part of the agent. */
const readStatus = (daemon: Daemon): string[] => daemon.cli('status').split('\n\n')[0]?.split('\n') ?? [];
