// SPDX-License-Identifier: Apache-2.0
// sluiced in the namespace of a lab's node, started as a user starts it, and the YAML directory that it watches. All daemons of a lab
// watch one directory, as they would watch one API server. Also builds the YAML objects of netns tests.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { stringify } from 'yaml';
import type { Lab } from './lab.ts';
import { labNodes, nodeOfPod, type NodeName, podAddresses } from './lab.ts';
import type { LabProcess } from './process.ts';
import { sh } from './shell.ts';

const root = join(import.meta.dirname, '../../..');

/** The default sizes as flags. They override the small sizes, because the last occurrence of a flag counts. */
const defaultSizes = [
  ...['--max-services', '65536', '--max-frontends', '65536', '--max-backends', '262144'],
  ...['--max-slots', '1048576', '--max-flows', '262144'],
];

/** Values of --pod-interfaces and --uplinks. */
interface Devices {
  readonly podInterfaces: string;
  readonly uplinks: string;
}

const labDevices: Devices = { podInterfaces: 'lxc', uplinks: 'eth0' };

export interface DaemonOptions {
  readonly hasSocketLb: boolean;
  /** True: the daemon finds its devices. By default their names are given. */
  readonly hasFoundDevices?: boolean;
  /** Default: the devices that every lab has. It is not used with `hasFoundDevices`. */
  readonly devices?: Devices;
  readonly extra?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Path of a main.ts to run instead of daemon/main.ts of this checkout. */
  readonly main?: string;
  /** Start the daemon with sluiced.sh, which sets the memory limits and flags of Node.js. */
  readonly isTuned?: boolean;
  /** Run the daemon in the cgroup of its node, so that the socket hooks translate its own connections. */
  readonly isInCgroup?: boolean;
  /** False: maps have the default sizes. */
  readonly isSmall?: boolean;
  /** Time limit for the start in ms, for a daemon with very many objects. */
  readonly readyMs?: number;
}

export class Daemon {
  readonly lab: Lab;
  readonly source: string;
  readonly socket: string;
  readonly node: NodeName;
  /** Flags that select the source of objects. */
  readonly #sourceFlags: readonly string[];
  process: LabProcess | undefined;

  /** Without `sourceFlags`, the source is the directory that write() writes to. */
  constructor(lab: Lab, node: NodeName = 'node-a', sourceFlags?: readonly string[]) {
    this.lab = lab;
    this.node = node;
    this.source = join(lab.directory, 'yaml');
    this.#sourceFlags = sourceFlags ?? ['--source', this.source];
    this.socket = join(lab.directory, node === 'node-a' ? 'run' : 'run-b', 'sluice.sock');
    mkdirSync(this.source, { recursive: true });
  }

  /** Starts the daemon. Resolves when the daemon is ready. */
  async start(options: DaemonOptions): Promise<void> {
    const {
      hasSocketLb,
      hasFoundDevices = false,
      devices,
      extra = [],
      env = {},
      main = join(root, 'daemon/main.ts'),
      isTuned = false,
      isSmall = true,
      isInCgroup = false,
      readyMs,
    } = options;
    const flags = [...this.flags(hasSocketLb, hasFoundDevices, devices), ...(isSmall ? [] : defaultSizes), ...extra];
    const command = isTuned ? ['sh', join(root, 'daemon/sluiced.sh')] : [process.execPath, main];
    const path = `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`;
    this.process = this.lab.start(labNodes[this.node].netns, [...command, ...flags], {
      ...{ env: { PATH: path, ...env }, inCgroup: isInCgroup },
    });
    await this.process.line((line) => line.includes('"msg":"ready"'), 0, readyMs);
  }

  flags(hasSocketLb: boolean, hasFoundDevices = false, { podInterfaces, uplinks } = labDevices): string[] {
    return [
      ...[...this.#sourceFlags, '--node', this.node],
      ...(hasFoundDevices ? [] : ['--pod-interfaces', podInterfaces, '--uplinks', uplinks]),
      ...['--pin-path', join(this.lab.bpffs, this.node === 'node-a' ? 'sluice' : 'sluice-b')],
      ...['--cgroup', this.lab.cgroupOf(this.node), '--socket', this.socket],
      ...['--socket-lb', hasSocketLb ? 'on' : 'off', '--log-level', 'debug'],
      ...['--http', 'off', '--metrics-bind-address', 'off'],
      // Small maps, so that reading all of them is fast.
      ...['--max-services', '1024', '--max-frontends', '1024', '--max-backends', '4096', '--max-slots', '65536', '--max-flows', '65536'],
    ];
  }

  /** Runs `sluice` against this daemon and returns its output. Throws with its stderr when it fails. */
  cli(...args: readonly string[]): string {
    return this.cliAt(this.socket, ...args);
  }

  cliAt(socket: string, ...args: readonly string[]): string {
    return sh(process.execPath, join(root, 'daemon/cli/main.ts'), '--socket', socket, ...args);
  }

  /** The command line of `sluice` against this daemon. */
  command(...args: readonly string[]): string[] {
    return [process.execPath, join(root, 'daemon/cli/main.ts'), '--socket', this.socket, ...args];
  }

  /** Replaces a file of the source directory atomically. Documents are plain objects. */
  write(name: string, ...documents: readonly object[]): void {
    const partial = join(this.source, `.${name}.partial`);
    writeFileSync(partial, documents.map((document) => stringify(document)).join('---\n'));
    renameSync(partial, join(this.source, name));
  }

  /** Resolves when `sluice service list` shows no difference and `isReached` accepts the list. */
  async settled(isReached: (services: readonly ListedService[]) => boolean): Promise<void> {
    for (const until = Date.now() + 60_000; ;) {
      const { services = [] } = JSON.parse(this.cli('service', 'list', '-o', 'json')) as { services?: ListedService[] };
      if (services.every(({ inSync }) => inSync) && isReached(services)) return;
      if (Date.now() > until) throw new Error(`the services did not settle: ${JSON.stringify(services)}`);
    }
  }
}

/** The fields of `sluice service list -o json` that tests read. */
export interface ListedService {
  readonly key: string;
  readonly inSync: boolean;
  readonly backends?: readonly { readonly address: string }[];
}

export const vips = { IPv4: '10.96.0.10', IPv6: 'fd00:96::10' } as const;

/** Properties of a Service in addition to its ClusterIPs. `spec` and `status` are as in the Kubernetes API. */
export interface ServiceExtras {
  readonly spec?: object;
  readonly status?: object;
  readonly nodePorts?: { readonly web: number; readonly dns: number };
}

/** A dual-stack Service: TCP 80 -> 8080 and UDP 53 -> 5353. */
export function service(name: string, addresses: { IPv4: string; IPv6: string } = vips, extras: ServiceExtras = {}): object {
  const { spec = {}, status = {}, nodePorts } = extras;
  const nodePort = (port: 'web' | 'dns'): object => (nodePorts === undefined ? {} : { nodePort: nodePorts[port] });
  return {
    ...{ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'default' } },
    spec: {
      ...{ clusterIP: addresses.IPv4, clusterIPs: [addresses.IPv4, addresses.IPv6], ipFamilies: ['IPv4', 'IPv6'] },
      ports: [
        { name: 'web', port: 80, protocol: 'TCP', ...nodePort('web') },
        { name: 'dns', port: 53, protocol: 'UDP', ...nodePort('dns') },
      ],
      ...spec,
    },
    status,
  };
}

/** A pod by number, a pod with its own conditions, or an address on the second node. */
export type Backend = number | { readonly pod: number; readonly conditions: object } | { readonly IPv4: string; readonly IPv6: string };

/** The EndpointSlices of a Service: one for each IP family. */
export function slices(name: string, backends: readonly Backend[], ports: { readonly web: number } = { web: 8080 }): object[] {
  return (['IPv4', 'IPv6'] as const).map((family) => ({
    ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: family },
    metadata: { name: `${name}-${family.toLowerCase()}`, namespace: 'default', labels: { 'kubernetes.io/service-name': name } },
    ports: [
      { name: 'web', port: ports.web, protocol: 'TCP' },
      { name: 'dns', port: 5353, protocol: 'UDP' },
    ],
    endpoints: backends.map((backend) => {
      const pod = typeof backend === 'number' ? backend : 'pod' in backend ? backend.pod : undefined;
      const addresses = typeof backend === 'object' && 'IPv4' in backend ? backend : podAddresses(pod ?? 0);
      return {
        addresses: [addresses[family]],
        conditions: typeof backend === 'object' && 'conditions' in backend ? backend.conditions : { ready: true },
        nodeName: pod === undefined ? 'node-b' : nodeOfPod(pod),
      };
    }),
  }));
}

/** The Node objects of a lab. */
export function nodes(): object[] {
  return Object.entries(labNodes).map(([name, { addresses, podCidrs }]) => ({
    ...{ apiVersion: 'v1', kind: 'Node', metadata: { name } },
    spec: { podCIDRs: [podCidrs.IPv4, podCidrs.IPv6] },
    status: { addresses: [addresses.IPv4, addresses.IPv6].map((address) => ({ type: 'InternalIP', address })) },
  }));
}
