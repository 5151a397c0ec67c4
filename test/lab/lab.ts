// SPDX-License-Identifier: Apache-2.0
// A node made of network namespaces: client pod, node, backend pods, and an outside host behind the uplink. Everything is
// its own (namespaces, bpffs, cgroup, directory) and is removed by close(), also when the process ends by a signal or an
// exception. Nothing is done to the root namespace. Used by the netns tests and the demo.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LabProcess, type StartOptions } from './process.ts';
import { attempt, sh } from './shell.ts';

/** Addresses of a pod: number N is 10.244.1.N and fd00:244:1::N. */
export const podAddresses = (number: number): { IPv4: string; IPv6: string } => ({
  IPv4: `10.244.1.${number}`,
  IPv6: `fd00:244:1::${number}`,
});
export const nodeAddresses = { IPv4: '10.0.0.1', IPv6: 'fd00:10::1' };
export const outsideAddresses = { IPv4: '10.0.0.254', IPv6: 'fd00:10::254' };
/** The pod of another node, behind the outside host: addRemotePod(). */
export const remoteAddresses = { IPv4: '10.244.2.1', IPv6: 'fd00:244:2::1' };

const GATEWAY4 = '169.254.1.1';
const GATEWAY6 = 'fe80::1';

export class Lab {
  /** "sl1234a": names everything that this lab makes. */
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
    this.id = `sl${process.pid}${String.fromCharCode(97 + Lab.#count++)}`;
    this.cgroup = join(mount[1], this.id);
    this.directory = mkdtempSync(join(tmpdir(), `${this.id}-`));
    this.bpffs = join(this.directory, 'bpf');
    // Whatever fails from here on, what was made goes with the process.
    process.once('exit', this.#cleanUp);
    mkdirSync(this.bpffs);
    sh('mount', '-t', 'bpf', 'bpf', this.bpffs);
    mkdirSync(this.cgroup);
    this.#buildNode();
  }

  /** Full name of a namespace ("node", "outside", "pod3"). */
  netns(name: string): string {
    return `${this.id}-${name}`;
  }

  /** `ip` in a namespace. */
  ip(name: string, ...args: readonly string[]): string {
    return sh('ip', '-n', this.netns(name), ...args);
  }

  /** A command in a namespace, with the file systems of the caller. */
  run(name: string, ...args: readonly string[]): string {
    return sh('nsenter', `--net=/run/netns/${this.netns(name)}`, ...args);
  }

  sysctl(name: string, key: string, value?: string): string {
    const path = `/proc/sys/${key.replaceAll('.', '/')}`;
    if (value !== undefined) this.run(name, 'sh', '-c', `echo ${value} > ${path}`);
    return this.run(name, 'cat', path).trim();
  }

  /** A pod on the node: namespace pod<number>, its veth in the node is lxc<number>. */
  addPod(number: number): void {
    const name = `pod${number}`;
    const host = `lxc${number}`;
    const address = podAddresses(number);
    this.#namespace(name);
    this.ip('node', 'link', 'add', host, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', this.netns(name));
    this.ip('node', 'link', 'set', host, 'up');
    this.ip(name, 'link', 'set', 'eth0', 'up');
    this.ip(name, 'address', 'add', `${address.IPv4}/32`, 'dev', 'eth0');
    this.ip(name, 'address', 'add', `${address.IPv6}/128`, 'dev', 'eth0', 'nodad');
    const mac = this.#mac('node', host);
    this.ip(name, 'neigh', 'add', GATEWAY4, 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent');
    this.ip(name, 'neigh', 'add', GATEWAY6, 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent');
    this.ip(name, 'route', 'add', GATEWAY4, 'dev', 'eth0', 'scope', 'link');
    this.ip(name, 'route', 'add', 'default', 'via', GATEWAY4, 'dev', 'eth0');
    this.ip(name, '-6', 'route', 'add', 'default', 'via', GATEWAY6, 'dev', 'eth0');
    this.ip('node', 'route', 'add', `${address.IPv4}/32`, 'dev', host);
    this.ip('node', '-6', 'route', 'add', `${address.IPv6}/128`, 'dev', host);
  }

  removePod(number: number): void {
    attempt('ip', '-n', this.netns('node'), 'link', 'delete', `lxc${number}`);
    attempt('ip', 'netns', 'delete', this.netns(`pod${number}`));
  }

  /** Starts a process in a namespace; it ends with the lab at the latest. */
  start(name: string, command: readonly string[], options: StartOptions = {}): LabProcess {
    const inCgroup = options.inCgroup === true ? this.cgroup : undefined;
    const started = new LabProcess({ netns: `/run/netns/${this.netns(name)}`, cgroup: inCgroup, command, env: options.env ?? {} });
    this.#processes.add(started);
    return started;
  }

  /** Ends every process and removes everything. */
  async close(): Promise<void> {
    await Promise.all([...this.#processes].map((each) => each.kill()));
    this.closeNow();
  }

  /** The same, for the end of the process: does not wait. Idempotent. */
  closeNow(): void {
    process.removeListener('exit', this.#cleanUp);
    for (const each of this.#processes) each.killNow();
    this.#processes.clear();
    for (const name of this.#namespaces.splice(0)) attempt('ip', 'netns', 'delete', name);
    if (existsSync(this.bpffs)) attempt('umount', '-l', this.bpffs);
    rmSync(this.directory, { recursive: true, force: true });
    Lab.#removeCgroup(this.cgroup);
  }

  #namespace(name: string): void {
    this.#namespaces.push(this.netns(name));
    sh('ip', 'netns', 'add', this.netns(name));
    this.ip(name, 'link', 'set', 'lo', 'up');
  }

  #mac(name: string, device: string): string {
    const [link] = JSON.parse(this.ip(name, '-j', 'link', 'show', 'dev', device)) as { address: string }[];
    return link?.address ?? '';
  }

  #buildNode(): void {
    this.#namespace('node');
    this.#namespace('outside');
    this.ip('node', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', this.netns('outside'));
    for (const [name, address] of [
      ['node', nodeAddresses],
      ['outside', outsideAddresses],
    ] as const) {
      this.sysctl(name, 'net.ipv4.ip_forward', '1');
      this.sysctl(name, 'net.ipv6.conf.all.forwarding', '1');
      this.ip(name, 'address', 'add', `${address.IPv4}/24`, 'dev', 'eth0');
      this.ip(name, 'address', 'add', `${address.IPv6}/64`, 'dev', 'eth0', 'nodad');
      this.ip(name, 'link', 'set', 'eth0', 'up');
    }
    // Strict: a reply that went up the stack at the wrong device would be lost.
    for (const scope of ['all', 'default', 'eth0']) this.sysctl('node', `net.ipv4.conf.${scope}.rp_filter`, '1');
    this.ip('node', 'route', 'add', 'default', 'via', outsideAddresses.IPv4);
    this.ip('node', '-6', 'route', 'add', 'default', 'via', outsideAddresses.IPv6);
    this.ip('outside', 'route', 'add', '10.244.1.0/24', 'via', nodeAddresses.IPv4);
    this.ip('outside', 'route', 'add', '10.96.0.0/16', 'via', nodeAddresses.IPv4);
    this.ip('outside', '-6', 'route', 'add', 'fd00:244:1::/64', 'via', nodeAddresses.IPv6);
    this.ip('outside', '-6', 'route', 'add', 'fd00:96::/64', 'via', nodeAddresses.IPv6);
  }

  /** A pod of another node: namespace "remote", behind the outside host. */
  addRemotePod(): void {
    this.#namespace('remote');
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
    // Everything it sends goes to the outside host, whatever the address.
    this.ip('remote', 'route', 'replace', 'default', 'via', outsideAddresses.IPv4, 'dev', 'eth0', 'onlink');
    this.ip('remote', '-6', 'route', 'replace', 'default', 'via', outsideAddresses.IPv6, 'dev', 'eth0', 'onlink');
  }

  /** Removes what labs of processes that were killed have left. */
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

  /** A cgroup goes when its last process has; those that were just killed take a moment, so they are moved out. */
  static #removeCgroup(path: string): void {
    if (!existsSync(path)) return;
    for (const pid of readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean)) {
      try {
        writeFileSync(join(path, '../cgroup.procs'), pid);
      } catch {
        // It is gone.
      }
    }
    try {
      rmdirSync(path);
    } catch {
      // The next lab sweeps it.
    }
  }
}
