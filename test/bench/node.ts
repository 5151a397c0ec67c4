// SPDX-License-Identifier: Apache-2.0
// One node of the veth rows: a lab with a client pod, two backend pods and one implementation of Services. Four such nodes run at
// the same time and are measured in turn. On each node the client alternates between connections to a VIP and direct connections to
// the backends of this VIP. The VIP belongs to the last of 10,000 Services. The other Services have endpoints that do not exist.
// path-rows.ts uses it.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon } from '../support/lab/daemon.ts';
import { Lab, podAddresses } from '../support/lab/lab.ts';
import { sh } from '../support/lab/shell.ts';
import { kubeProxyRules, type NftService } from './nft.ts';

/** The kind of node, named after how packets to a VIP reach a backend. A bare node has no programs, no rules and no VIP. */
export type Way = 'bare' | 'socket' | 'tc' | 'nft';

const SERVICES = 10_000;
const CLIENT = 'pod9';
const SERVERS = [1, 2];
const PORTS = { tcp: 8080, udp: 5353 };

/**
 * Share of connections that may fail. If another CPU handles the packets of the client, a connection in 100,000 is reset also on a node
 * without programs. Such a connection delays the next ones for a moment.
 */
const FAILURES_SHARE = 0.01;

/** All Services, each with one port. The last two lead to the UDP and the TCP port of the pods. */
function services(): NftService[] {
  return Array.from({ length: SERVICES }, (_, n) => {
    const protocol = n === SERVICES - 2 ? 'udp' : 'tcp';
    const isServed = n >= SERVICES - 2;
    const hosts = isServed
      ? SERVERS.map((number) => podAddresses(number).IPv4)
      : [1, 2].map((b) => `10.245.${n >> 7}.${(n & 127) * 2 + b - 1}`);
    const endpoints = hosts.map((host) => `${host}:${PORTS[protocol]}`);
    return { name: `s${n}`, address: `10.96.${n >> 8}.${n & 255}`, protocol, port: 80, endpoints };
  });
}

/** The Kubernetes objects of a Service. */
function objects({ name, address, protocol, port, endpoints }: NftService): object[] {
  const metadata = { name, namespace: 'default' };
  const upper = protocol.toUpperCase();
  const [, backendPort] = endpoints[0]?.split(':') ?? [];
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: { clusterIP: address, clusterIPs: [address], ports: [{ port, protocol: upper }] },
    },
    {
      ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4' },
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': name } },
      ports: [{ port: Number(backendPort), protocol: upper }],
      endpoints: endpoints.map((endpoint) => ({ addresses: [endpoint.split(':')[0]], conditions: { ready: true }, nodeName: 'node-a' })),
    },
  ];
}

/** Count and p50 (in ns) of the connections for which connect() waited for the SYN-ACK in one of two ways. */
interface Mode {
  readonly count: number;
  readonly p50: number;
}

/** The connections to one destination in one round. */
export interface Connects {
  readonly count: number;
  readonly failures: number;
  readonly seconds: number;
  /** CPU time in ns of the client and of the servers, including the work of the kernel for them. */
  readonly clientNs: number;
  readonly serverNs: number;
  readonly p50: number;
  readonly p99: number;
  /** Connections for which connect() did not sleep. */
  readonly inside: Mode;
  /** Connections for which connect() slept until the SYN-ACK arrived. */
  readonly slept: Mode;
}

/** Whether packets go to the VIP or directly to its backends. */
export type Destination = 'vip' | 'direct';

/** The CPU that handles the packets arriving at a pod: the CPU of the sender (the default for a veth), or the second CPU of the machine. */
export type Steering = 'sender' | 'second';

/** Sets receive packet steering for eth0 of a pod. */
export function steer(lab: Lab, pod: string, to: Steering): void {
  const mask = to === 'sender' ? 0 : 2;
  sh('ip', 'netns', 'exec', lab.netns(pod), 'sh', '-c', `echo ${mask} > /sys/class/net/eth0/queues/rx-0/rps_cpus`);
}

export class BenchNode {
  readonly way: Way;
  readonly #lab = new Lab();
  readonly #peer: string;
  readonly #serverPids: number[] = [];

  /** `peer`: path of the compiled peer.c. */
  constructor(way: Way, peer: string) {
    this.way = way;
    this.#peer = peer;
  }

  async open(): Promise<void> {
    for (const number of [...SERVERS, 9]) this.#lab.addPod(number);
    for (const number of SERVERS) {
      for (const protocol of ['tcp', 'udp'] as const) {
        const server = this.#lab.start(`pod${number}`, [this.#peer, `serve-${protocol}`, String(PORTS[protocol])]);
        await server.line((line) => line === 'ready');
        if (protocol === 'tcp') this.#serverPids.push(server.pid);
      }
    }
    if (this.way === 'nft') this.#loadRules();
    else if (this.way !== 'bare') await this.#startDaemon();
  }

  #loadRules(): void {
    const command = [`--net=/run/netns/${this.#lab.netns('node')}`, 'nft', '-f', '-'];
    for (const script of kubeProxyRules(services())) execFileSync('nsenter', command, { input: script });
  }

  async #startDaemon(): Promise<void> {
    const daemon = new Daemon(this.#lab);
    writeFileSync(
      join(daemon.source, 'services.json'),
      JSON.stringify({ apiVersion: 'v1', kind: 'List', items: services().flatMap(objects) }),
    );
    await daemon.start({ hasSocketLb: this.way === 'socket', isSmall: false, extra: ['--log-level', 'info'] });
  }

  /**
   * Makes connections one after the other for `ms` milliseconds, alternately to the VIP and directly to the backends. On a bare node
   * all connections are direct. Throws if too many connections fail.
   */
  async connect(ms: number, steering: Steering): Promise<Readonly<Record<Destination, Connects>>> {
    steer(this.#lab, CLIENT, steering);
    const direct = SERVERS.map((number) => `${podAddresses(number).IPv4}:${PORTS.tcp}`).join(',');
    const vip = this.way === 'bare' ? direct : `${services()[SERVICES - 1]?.address}:80`;
    const [throughVip, directly] = (await this.#ask('connect', String(ms), this.#serverPids.join(','), vip, direct)) as Connects[];
    for (const side of [throughVip, directly]) {
      if (side === undefined || side.failures > side.count * FAILURES_SHARE || side.count === 0)
        throw new Error(`${this.way}: ${side?.failures} of ${side?.count} connections failed.`);
    }
    return { vip: throughVip as Connects, direct: directly as Connects };
  }

  /**
   * Datagrams per second that reached the sockets of the pods, including datagrams that were dropped at a full receive buffer.
   */
  async flood(ms: number, destination: Destination): Promise<number> {
    const before = this.#arrived();
    const to = destination === 'direct' ? [podAddresses(1).IPv4, String(PORTS.udp)] : [services()[SERVICES - 2]?.address ?? '', '80'];
    const { count, seconds } = (await this.#ask('flood', ...to, String(ms))) as { count: number; seconds: number };
    const arrived = this.#arrived() - before;
    if (arrived < count * 0.99) throw new Error(`${this.way}: Only ${arrived} of ${count} datagrams arrived.`);
    return arrived / seconds;
  }

  async #ask(...args: readonly string[]): Promise<unknown> {
    const client = this.#lab.start(CLIENT, [this.#peer, ...args], { inCgroup: true });
    const answer = await client.line((line) => /^[[{]/.test(line));
    await client.ended;
    return JSON.parse(answer);
  }

  /** Sum of the UDP counters of the pods: datagrams that were read, and datagrams that were dropped because a receive buffer was full. */
  #arrived(): number {
    let sum = 0;
    for (const number of SERVERS) {
      const [names = [], values = []] = this.#lab
        .run(`pod${number}`, 'cat', '/proc/net/snmp')
        .split('\n')
        .filter((line) => line.startsWith('Udp:'))
        .map((line) => line.split(' '));
      for (const name of ['InDatagrams', 'RcvbufErrors']) sum += Number(values[names.indexOf(name)]);
    }
    return sum;
  }

  close(): Promise<void> {
    return this.#lab.close();
  }
}
