// SPDX-License-Identifier: Apache-2.0
// One node of the veth rows: a lab with a client pod, two backend pods and one implementation of Services. Four such nodes run at
// the same time and are measured in turn. The client uses the last of 10,000 Services; the other Services have endpoints that do
// not exist. path-rows.ts uses it.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon } from '../support/lab/daemon.ts';
import { Lab, podAddresses } from '../support/lab/lab.ts';
import { kubeProxyRules, type NftService } from './nft.ts';

/** How the client's packets reach a backend. */
export type Way = 'direct' | 'socket' | 'tc' | 'nft';

const SERVICES = 10_000;
const CLIENT = 'pod9';
const SERVERS = [1, 2];
const PORTS = { tcp: 8080, udp: 5353 };

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

interface Connects {
  readonly count: number;
  readonly failures: number;
  readonly seconds: number;
  readonly p50: number;
}

export class BenchNode {
  readonly way: Way;
  readonly #lab = new Lab();
  readonly #peer: string;

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
      }
    }
    if (this.way === 'nft') this.#loadRules();
    else if (this.way !== 'direct') await this.#startDaemon();
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

  /** Makes connections one after the other for this time. Throws if one fails. */
  async connect(ms: number): Promise<Connects> {
    const result = (await this.#ask('connect', 'tcp', ms)) as Connects;
    if (result.failures > 0 || result.count === 0)
      throw new Error(`${this.way}: ${result.failures} of ${result.count} connections failed.`);
    return result;
  }

  /**
   * Datagrams per second that reached the sockets of the pods, including datagrams that were dropped at a full receive buffer.
   */
  async flood(ms: number): Promise<number> {
    const before = this.#arrived();
    const { count, seconds } = (await this.#ask('flood', 'udp', ms)) as Connects;
    const arrived = this.#arrived() - before;
    if (arrived < count * 0.99) throw new Error(`${this.way}: Only ${arrived} of ${count} datagrams arrived.`);
    return arrived / seconds;
  }

  async #ask(role: string, protocol: 'tcp' | 'udp', ms: number): Promise<unknown> {
    const last = services()[SERVICES - (protocol === 'udp' ? 2 : 1)];
    const [address, port] = this.way === 'direct' ? [podAddresses(1).IPv4, PORTS[protocol]] : [last?.address ?? '', 80];
    const client = this.#lab.start(CLIENT, [this.#peer, role, address, String(port), String(ms)], { inCgroup: true });
    const answer = await client.line((line) => line.startsWith('{'));
    await client.ended;
    return JSON.parse(answer);
  }

  /** Sum of the UDP counters of the pods: datagrams that were read, and datagrams that were dropped at a full receive buffer. */
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
