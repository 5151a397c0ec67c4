// SPDX-License-Identifier: Apache-2.0
// A node made of network namespaces: pods, the node, and an outside host behind its uplink. The outside host is also a router, behind
// which a second node, a client and an API server can be added. The lab has its own namespaces, bpffs, cgroups and directory. close()
// removes them, also when the process ends with a signal or an exception. It must never change the root namespace. Used by the netns
// and cluster tests, the benchmarks and the demo.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LabProcess, type StartOptions } from './process.ts';
import { attempt, sh } from './shell.ts';

interface Addresses {
  readonly IPv4: string;
  readonly IPv6: string;
}

export const nodeAddresses = { IPv4: '10.0.0.1', IPv6: 'fd00:10::1' };
export const outsideAddresses = { IPv4: '10.0.0.254', IPv6: 'fd00:10::254' };
/** Addresses of the API server that addApiServer() adds behind the router. */
export const apiAddresses = { IPv4: '10.0.9.1', IPv6: 'fd00:10:9::1' };
/** Addresses of the client that addClient() adds behind the router. */
export const clientAddresses = { IPv4: '172.20.0.9', IPv6: 'fd00:20::9' };
/** Ranges of the ClusterIPs and of the external addresses of Services. The router routes both ranges to the first node. */
const serviceRanges = { IPv4: '10.96.0.0/16', IPv6: 'fd00:96::/64' };
const externalRanges = { IPv4: '203.0.113.0/24', IPv6: 'fd00:203::/64' };

/** A node: its namespace, the addresses of both ends of its uplink (the node and the router), and the ranges of its pods. */
interface LabNode {
  readonly netns: string;
  readonly addresses: Addresses;
  readonly router: Addresses;
  readonly podCidrs: Addresses;
}

export const labNodes = {
  'node-a': {
    ...{ netns: 'node', addresses: nodeAddresses, router: outsideAddresses },
    podCidrs: { IPv4: '10.244.1.0/24', IPv6: 'fd00:244:1::/64' },
  },
  'node-b': {
    ...{ netns: 'node-b', addresses: { IPv4: '10.0.1.1', IPv6: 'fd00:10:1::1' } },
    router: { IPv4: '10.0.1.254', IPv6: 'fd00:10:1::254' },
    podCidrs: { IPv4: '10.244.2.0/24', IPv6: 'fd00:244:2::/64' },
  },
} as const satisfies Record<string, LabNode>;

export type NodeName = keyof typeof labNodes;

/** The node of a pod. Pods with numbers from 100 on are on the second node. */
export const nodeOfPod = (number: number): NodeName => (number < 100 ? 'node-a' : 'node-b');
/** Addresses of a pod. Pod N has 10.244.1.N and fd00:244:1::N, or 10.244.2.N and fd00:244:2::N on the second node. */
export const podAddresses = (number: number): Addresses => {
  const subnet = nodeOfPod(number) === 'node-a' ? 1 : 2;
  return { IPv4: `10.244.${subnet}.${number}`, IPv6: `fd00:244:${subnet}::${number}` };
};
/** Addresses of the pod that addRemotePod() adds behind the outside host. It is a pod of another node. */
export const remoteAddresses = { IPv4: '10.244.2.1', IPv6: 'fd00:244:2::1' };

/** Maximum time in which a killed process leaves its cgroup. */
const EXIT_MS = 10_000;

const GATEWAY4 = '169.254.1.1';
const GATEWAY6 = 'fe80::1';

export class Lab {
  /** "sl1234a": prefix of the names of everything that this lab creates. */
  readonly id: string;
  readonly directory: string;
  readonly bpffs: string;
  readonly cgroup: string;
  readonly #namespaces: string[] = [];
  readonly #processes = new Set<LabProcess>();
  readonly #cleanUp = (): void => this.closeNow();
  static #count = 0;

  constructor() {
    Lab.#sweep();
    const mount = readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' '))
      .find((fields) => fields[2] === 'cgroup2');
    if (mount?.[1] === undefined) throw new Error('no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup');
    // Name of the next lab of this process: after "z" come "za" to "zz", then "zza".
    const number = Lab.#count++;
    this.id = `sl${process.pid}${'z'.repeat(number / 26)}${String.fromCharCode(97 + (number % 26))}`;
    this.cgroup = join(mount[1], this.id);
    this.directory = mkdtempSync(join(tmpdir(), `${this.id}-`));
    this.bpffs = join(this.directory, 'bpf');
    // If a later step fails, everything is removed when the process exits.
    process.once('exit', this.#cleanUp);
    mkdirSync(this.bpffs);
    sh('mount', '-t', 'bpf', 'bpf', this.bpffs);
    mkdirSync(this.cgroup);
    this.#buildNode();
  }

  /** The cgroup that the socket hooks of a node are attached to. */
  cgroupOf(node: NodeName): string {
    return node === 'node-a' ? this.cgroup : `${this.cgroup}-b`;
  }

  /** Full name of a namespace ("node", "outside", "pod3"). */
  netns(name: string): string {
    return `${this.id}-${name}`;
  }

  /** Runs `ip` in a namespace. */
  ip(name: string, ...args: readonly string[]): string {
    return sh('ip', '-n', this.netns(name), ...args);
  }

  /** Runs a command in a network namespace, with the file systems of the caller. */
  run(name: string, ...args: readonly string[]): string {
    return sh('nsenter', `--net=/run/netns/${this.netns(name)}`, ...args);
  }

  sysctl(name: string, key: string, value?: string): string {
    const path = `/proc/sys/${key.replaceAll('.', '/')}`;
    if (value !== undefined) this.run(name, 'sh', '-c', `echo ${value} > ${path}`);
    return this.run(name, 'cat', path).trim();
  }

  /** Adds a pod to its node: namespace pod<number>, whose veth peer in the node is lxc<number>. */
  addPod(number: number): void {
    const name = `pod${number}`;
    const host = `lxc${number}`;
    const address = podAddresses(number);
    const node = labNodes[nodeOfPod(number)].netns;
    this.addNamespace(name);
    this.ip(node, 'link', 'add', host, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', this.netns(name));
    this.ip(node, 'link', 'set', host, 'up');
    this.ip(name, 'link', 'set', 'eth0', 'up');
    this.ip(name, 'address', 'add', `${address.IPv4}/32`, 'dev', 'eth0');
    this.ip(name, 'address', 'add', `${address.IPv6}/128`, 'dev', 'eth0', 'nodad');
    const mac = this.#mac(node, host);
    this.ip(name, 'neigh', 'add', GATEWAY4, 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent');
    this.ip(name, 'neigh', 'add', GATEWAY6, 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent');
    this.ip(name, 'route', 'add', GATEWAY4, 'dev', 'eth0', 'scope', 'link');
    this.ip(name, 'route', 'add', 'default', 'via', GATEWAY4, 'dev', 'eth0');
    this.ip(name, '-6', 'route', 'add', 'default', 'via', GATEWAY6, 'dev', 'eth0');
    this.ip(node, 'route', 'add', `${address.IPv4}/32`, 'dev', host);
    this.ip(node, '-6', 'route', 'add', `${address.IPv6}/128`, 'dev', host);
  }

  removePod(number: number): void {
    attempt('ip', '-n', this.netns(labNodes[nodeOfPod(number)].netns), 'link', 'delete', `lxc${number}`);
    attempt('ip', 'netns', 'delete', this.netns(`pod${number}`));
  }

  /** Starts a process in a namespace. close() kills it. */
  start(name: string, command: readonly string[], options: StartOptions = {}): LabProcess {
    const cgroup = options.inCgroup === true ? this.#cgroupAt(name) : undefined;
    const started = new LabProcess({ netns: `/run/netns/${this.netns(name)}`, cgroup, command, env: options.env ?? {} });
    this.#processes.add(started);
    return started;
  }

  /** Kills all processes and removes everything. */
  async close(): Promise<void> {
    await Promise.all([...this.#processes].map((each) => each.kill()));
    this.closeNow();
  }

  /** Like close(), but synchronous, for the exit of the process. It blocks for EXIT_MS at most, and may be called repeatedly. */
  closeNow(): void {
    process.removeListener('exit', this.#cleanUp);
    for (const each of this.#processes) each.killNow();
    this.#processes.clear();
    for (const name of this.#namespaces.splice(0)) attempt('ip', 'netns', 'delete', name);
    if (existsSync(this.bpffs)) attempt('umount', '-l', this.bpffs);
    rmSync(this.directory, { recursive: true, force: true });
    for (const node of ['node-a', 'node-b'] as const) Lab.#removeCgroup(this.cgroupOf(node));
  }

  /** The cgroup whose socket hooks serve the processes of a namespace; undefined outside of the nodes. */
  #cgroupAt(name: string): string | undefined {
    const pod = /^pod(\d+)$/.exec(name)?.[1];
    if (pod !== undefined) return this.cgroupOf(nodeOfPod(Number(pod)));
    if (name === 'node') return this.cgroup;
    return name === 'node-b' ? this.cgroupOf('node-b') : undefined;
  }

  /** Adds an empty namespace. */
  addNamespace(name: string): void {
    this.#namespaces.push(this.netns(name));
    sh('ip', 'netns', 'add', this.netns(name));
    // Without duplicate address detection, addresses are usable at once, also the link-local one that neighbour solicitations need.
    for (const scope of ['all', 'default']) this.sysctl(name, `net.ipv6.conf.${scope}.accept_dad`, '0');
    this.ip(name, 'link', 'set', 'lo', 'up');
  }

  #mac(name: string, device: string): string {
    const [link] = JSON.parse(this.ip(name, '-j', 'link', 'show', 'dev', device)) as { address: string }[];
    return link?.address ?? '';
  }

  #buildNode(): void {
    this.addNamespace('outside');
    this.sysctl('outside', 'net.ipv4.ip_forward', '1');
    this.sysctl('outside', 'net.ipv6.conf.all.forwarding', '1');
    this.#uplink('node-a', 'eth0');
    const { IPv4, IPv6 } = nodeAddresses;
    for (const cidr of [serviceRanges.IPv4, externalRanges.IPv4]) this.ip('outside', 'route', 'add', cidr, 'via', IPv4);
    for (const cidr of [serviceRanges.IPv6, externalRanges.IPv6]) this.ip('outside', '-6', 'route', 'add', cidr, 'via', IPv6);
  }

  /** Adds the second node behind the router: namespace "node-b". */
  addNode(): void {
    mkdirSync(this.cgroupOf('node-b'));
    this.#uplink('node-b', 'node-b');
  }

  /** Adds a client behind the router: namespace "client". */
  addClient(): void {
    this.addNamespace('client');
    const router = { IPv4: '172.20.0.254', IPv6: 'fd00:20::254' };
    this.#link('client', { device: 'client', addresses: clientAddresses, router });
  }

  /** Adds a namespace for an API server behind the router: "api". */
  addApiServer(): void {
    this.addNamespace('api');
    const router = { IPv4: '10.0.9.254', IPv6: 'fd00:10:9::254' };
    this.#link('api', { device: 'api', addresses: apiAddresses, router });
  }

  /** Changes the MTU of the routes that lead from the router to one place, or to all places. The devices keep their MTU. */
  narrow(mtu: number, place?: 'client' | NodeName): void {
    const routes: { to: Addresses; at: 'client' | NodeName; via?: Addresses }[] = [
      { to: clientAddresses, at: 'client' },
      { to: nodeAddresses, at: 'node-a' },
      { to: labNodes['node-a'].podCidrs, at: 'node-a', via: nodeAddresses },
      { to: serviceRanges, at: 'node-a', via: nodeAddresses },
      { to: labNodes['node-b'].addresses, at: 'node-b' },
      { to: labNodes['node-b'].podCidrs, at: 'node-b', via: labNodes['node-b'].addresses },
    ];
    for (const { to, at, via } of routes.filter((route) => place === undefined || route.at === place)) {
      const device = at === 'node-a' ? 'eth0' : at;
      for (const family of ['IPv4', 'IPv6'] as const) {
        const by = via === undefined ? [] : ['via', via[family]];
        const flag = family === 'IPv4' ? '-4' : '-6';
        this.ip('outside', flag, 'route', 'replace', to[family], ...by, 'dev', device, 'mtu', 'lock', String(mtu));
      }
    }
  }

  /** Creates the namespace of a node, its link to the router, and the router's routes to its pods. */
  #uplink(name: NodeName, device: string): void {
    const { netns, addresses, router, podCidrs } = labNodes[name];
    this.addNamespace(netns);
    this.sysctl(netns, 'net.ipv4.ip_forward', '1');
    this.sysctl(netns, 'net.ipv6.conf.all.forwarding', '1');
    this.#link(netns, { device, addresses, router });
    // Strict reverse path filtering: the kernel drops a reply that is delivered to the stack on the wrong device.
    for (const scope of ['all', 'default', 'eth0']) this.sysctl(netns, `net.ipv4.conf.${scope}.rp_filter`, '1');
    this.ip('outside', 'route', 'add', podCidrs.IPv4, 'via', addresses.IPv4);
    this.ip('outside', '-6', 'route', 'add', podCidrs.IPv6, 'via', addresses.IPv6);
  }

  /** Connects eth0 of a namespace with `device` of the router, sets the addresses, and adds the default route. */
  #link(netns: string, { device, addresses, router }: { device: string; addresses: Addresses; router: Addresses }): void {
    this.ip(netns, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', device, 'netns', this.netns('outside'));
    for (const [name, dev, { IPv4, IPv6 }] of [
      [netns, 'eth0', addresses],
      ['outside', device, router],
    ] as const) {
      this.ip(name, 'address', 'add', `${IPv4}/24`, 'dev', dev);
      this.ip(name, 'address', 'add', `${IPv6}/64`, 'dev', dev, 'nodad');
      this.ip(name, 'link', 'set', dev, 'up');
    }
    this.ip(netns, 'route', 'add', 'default', 'via', router.IPv4);
    this.ip(netns, '-6', 'route', 'add', 'default', 'via', router.IPv6);
  }

  /** Adds a pod of another node behind the outside host: namespace "remote". */
  addRemotePod(): void {
    this.addNamespace('remote');
    this.ip('outside', 'link', 'add', 'remote', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', this.netns('remote'));
    this.ip('outside', 'link', 'set', 'remote', 'up');
    this.ip('remote', 'link', 'set', 'eth0', 'up');
    for (const [family, address, length] of [
      ['-4', remoteAddresses.IPv4, 32],
      ['-6', remoteAddresses.IPv6, 128],
    ] as const) {
      this.ip('remote', 'address', 'add', `${address}/${length}`, 'dev', 'eth0', ...(family === '-6' ? ['nodad'] : []));
      this.ip('remote', family, 'route', 'add', 'default', 'dev', 'eth0');
      this.ip(
        'remote',
        'neigh',
        'add',
        family === '-4' ? outsideAddresses.IPv4 : outsideAddresses.IPv6,
        'lladdr',
        this.#mac('outside', 'remote'),
        'dev',
        'eth0',
      );
      this.ip('outside', family, 'route', 'add', `${address}/${length}`, 'dev', 'remote');
      this.ip('outside', 'neigh', 'add', address, 'lladdr', this.#mac('remote', 'eth0'), 'dev', 'remote', 'nud', 'permanent');
    }
    // All packets of the pod go to the outside host.
    this.ip('remote', 'route', 'replace', 'default', 'via', outsideAddresses.IPv4, 'dev', 'eth0', 'onlink');
    this.ip('remote', '-6', 'route', 'replace', 'default', 'via', outsideAddresses.IPv6, 'dev', 'eth0', 'onlink');
  }

  /** Removes what remains of labs whose process was killed. */
  static #sweep(): void {
    const isDead = (name: string): boolean => {
      const pid = /^sl(\d+)[a-z]/.exec(name)?.[1];
      return pid !== undefined && !existsSync(`/proc/${pid}`);
    };
    if (existsSync('/run/netns')) for (const name of readdirSync('/run/netns').filter(isDead)) attempt('ip', 'netns', 'delete', name);
    for (const mount of readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
      const [, path = ''] = mount.split(' ');
      const name = path.split('/').find(isDead);
      if (name !== undefined && path.endsWith('/bpf')) attempt('umount', '-l', path);
    }
    for (const name of readdirSync(tmpdir()).filter(isDead)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
    const root = readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' '))
      .find((fields) => fields[2] === 'cgroup2')?.[1];
    if (root !== undefined) for (const name of readdirSync(root).filter(isDead)) Lab.#removeCgroup(join(root, name));
  }

  /** Removes a cgroup. Processes of a dead lab are moved to the parent. Processes that were just killed need a moment to leave. */
  static #removeCgroup(path: string): void {
    if (!existsSync(path)) return;
    for (const pid of readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean)) {
      try {
        writeFileSync(join(path, '../cgroup.procs'), pid);
      } catch {
        // Nothing to move: the process has exited.
      }
    }
    for (const until = Date.now() + EXIT_MS; Date.now() < until; Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)) {
      try {
        rmdirSync(path);
        return;
      } catch (error) {
        // A failure is not an error: the next lab tries again.
        if ((error as NodeJS.ErrnoException).code !== 'EBUSY') return;
      }
    }
  }
}
