// SPDX-License-Identifier: Apache-2.0
// The daemon's settings: one schema, from which flags, environment variables, file keys, help and documentation are generated.
// Defines the type, the default and the help text of each setting, and the checks across settings. Reads nothing but the host
// name: resolve.ts reads the values.
import { hostname } from 'node:os';
import { z } from 'zod';

import { kebab, type NamedSetting } from './sources.ts';
import {
  absolutePath,
  apiServers,
  cidrs,
  devices,
  duration,
  httpAddress,
  looseCidrs,
  nodeName,
  nodePortAddresses,
  nonEmpty,
  oneOf,
  onOff,
  snatPorts,
  socketPath,
  wholeNumber,
} from './values.ts';

interface SettingMeta {
  /** Placeholder in the help: "DIR". */
  readonly argument: string;
  readonly help: string;
  /** As text, read like any other source's; undefined when there is none. */
  readonly fallback?: string | (() => string);
  /** How help and documentation name a fallback that differs by machine. */
  readonly fallbackShown?: string;
  /** Giving the flag again adds to it. */
  readonly isList?: boolean;
  /** What the flag means without a value. */
  readonly bare?: string;
}

const metas = z.registry<SettingMeta>();
const setting = <S extends z.ZodType>(schema: S, meta: SettingMeta): S => {
  // The registry knows schemas by identity, and two settings may be of one kind.
  const own = schema.clone();
  metas.add(own, meta);
  return own;
};

const count = (least: number, most: number, meta: { readonly help: string; readonly fallback: number }): ReturnType<typeof wholeNumber> =>
  setting(wholeNumber(least, most), { argument: 'N', help: meta.help, fallback: String(meta.fallback) });

const million = 2 ** 20;

const slots = wholeNumber(16, 64 * million).refine((value) => value % 16 === 0, {
  error: 'must be a multiple of 16, the slots in one array element',
});

const shape = {
  source: setting(nonEmpty.optional(), {
    argument: 'DIR',
    help: 'directory of Service, EndpointSlice and Node YAML, watched; default: the API server',
  }),
  kubeconfig: setting(nonEmpty.optional(), {
    argument: 'FILE',
    help: 'how to reach the API server; default: as the service account of the pod that this runs in',
  }),
  apiServer: setting(apiServers, {
    argument: 'URL,...',
    help: "addresses of the API server, tried in turn, in place of the kubeconfig's or of the ClusterIP that pods are told",
    fallback: '',
    isList: true,
  }),
  node: setting(nodeName, {
    argument: 'NAME',
    help: 'name of the Node this agent serves',
    fallback: () => hostname().toLowerCase(),
    fallbackShown: "the host's name",
  }),
  podInterfaces: setting(devices, {
    argument: 'PREFIX,...',
    help: 'devices whose names begin so lead to pods: they get programs as they appear',
    fallback: '',
    isList: true,
  }),
  uplinks: setting(devices, { argument: 'DEV,...', help: 'devices that lead out of the node', fallback: '', isList: true }),
  serviceCidr: setting(cidrs, {
    argument: 'CIDR,...',
    help: 'Service address ranges beside those of ServiceCIDR objects: unallocated addresses in them are dropped',
    fallback: '',
    isList: true,
  }),
  clusterCidr: setting(looseCidrs, {
    argument: 'CIDR,...',
    help: 'ranges of pod addresses, for detect-local-mode ClusterCIDR',
    fallback: '',
    isList: true,
  }),
  detectLocalMode: setting(oneOf('ClusterCIDR', 'NodeCIDR', 'InterfaceNamePrefix', 'none'), {
    argument: 'MODE',
    help: "how pods are told, whose packets to ClusterIPs keep their source: by cluster-cidr, by the Node's podCIDRs, by pod-interfaces, or not (ClusterCIDR, NodeCIDR, InterfaceNamePrefix, none)",
    fallback: 'ClusterCIDR',
  }),
  masqueradeAll: setting(onOff, {
    argument: 'on|off',
    help: 'masquerade everything that goes to a ClusterIP',
    fallback: 'off',
    bare: 'on',
  }),
  nodePortAddresses: setting(nodePortAddresses, {
    argument: 'all|primary|CIDR,...',
    help: "addresses of the node on which NodePorts are served: all but loopback, the Node's primary ones, or those within CIDRs",
    fallback: 'primary',
    isList: true,
  }),
  snatPorts: setting(snatPorts, {
    argument: 'FIRST-LAST,...',
    help: "source ports of masqueraded flows: one or two ranges, apart from NodePorts and the host's ip_local_port_range",
    fallback: '1024-29999,61000-65535',
  }),
  socketLb: setting(onOff, { argument: 'on|off', help: 'translate connect() and its relatives in socket hooks', fallback: 'on' }),
  cgroup: setting(absolutePath.optional(), { argument: 'DIR', help: 'cgroup2 directory for the socket hooks; default: the cgroup2 mount' }),
  pinPath: setting(absolutePath, { argument: 'DIR', help: 'where in a bpffs maps and links are pinned', fallback: '/sys/fs/bpf/sluice' }),
  socket: setting(socketPath, { argument: 'PATH', help: 'Unix socket of the gRPC API', fallback: '/run/sluice/sluice.sock' }),
  socketGroup: setting(nonEmpty.optional(), { argument: 'NAME', help: 'group that may use the API; default: root only' }),
  http: setting(httpAddress, { argument: 'ADDR:PORT', help: '/healthz, /readyz and /metrics; "off" for none', fallback: '127.0.0.1:9880' }),
  healthzBindAddress: setting(httpAddress, {
    argument: 'ADDR:PORT',
    help: '/healthz and /livez as kube-proxy answers them, for load balancers and the kubelet; "off" for none',
    fallback: '0.0.0.0:10256',
  }),
  syncPeriod: setting(duration, {
    argument: 'TIME',
    help: 'how often pins, links and maps are compared with what they should be, and put right',
    fallback: '10s',
  }),
  logLevel: setting(oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal'), {
    argument: 'LEVEL',
    help: 'trace, debug, info, warn, error or fatal',
    fallback: 'info',
  }),
  logFormat: setting(oneOf('text', 'json'), { argument: 'text|json', help: 'text for people, json for collectors', fallback: 'json' }),
  maxServices: count(1, 4 * million, { help: 'most Service ports, each family counting', fallback: 65_536 }),
  maxFrontends: count(1, 16 * million, { help: 'most frontends per family', fallback: 65_536 }),
  maxBackends: count(1, 16 * million, { help: 'most backends per family', fallback: 262_144 }),
  maxSlots: setting(slots, { argument: 'N', help: 'most slots, a multiple of 16', fallback: String(million) }),
  maxFlows: count(1024, 64 * million, { help: 'most flow rows per family, two to a flow; the oldest make room', fallback: 262_144 }),
  maxSocketFlows: count(1024, 16 * million, { help: 'most translated UDP socket peers remembered', fallback: 65_536 }),
};

export const schema = z.object(shape).superRefine((config, context) => {
  const refuse = (key: Key, message: string): void => context.addIssue({ code: 'custom', path: [key], message });
  for (const key of ['kubeconfig', 'apiServer'] as const) {
    if (config.source !== undefined && (config[key]?.length ?? 0) > 0)
      refuse(key, 'names a cluster, and --source a directory: give one of them');
  }
  for (const device of config.uplinks) {
    const prefix = config.podInterfaces.find((each) => device.startsWith(each));
    if (prefix !== undefined)
      refuse('uplinks', `holds "${device}", which the pod-interfaces prefix "${prefix}" matches too: a device leads to a pod or out`);
  }
  if (`${config.socket}/`.startsWith(`${config.pinPath}/`))
    refuse('socket', `lies in the pin path ${config.pinPath}, where no socket can be made`);
  if (!config.socketLb && config.podInterfaces.length === 0 && config.uplinks.length === 0) {
    refuse('socketLb', 'leaves nothing to translate packets: give --pod-interfaces or --uplinks, or turn it on');
  }
});

/** Every setting, read and checked. Immutable. */
export type Config = Readonly<z.output<typeof schema>>;
export type Key = keyof typeof shape;

/** What is known of a setting before any value: for flags, help and documentation. */
export interface Setting extends NamedSetting {
  readonly key: Key;
}

/** All settings in the order of the help. */
export function allSettings(): readonly Setting[] {
  return (Object.keys(shape) as Key[]).map((key) => {
    const { fallback, ...meta } = metas.get(shape[key]) as SettingMeta;
    const name = kebab(key);
    const environment = `SLUICE_${name.replaceAll('-', '_').toUpperCase()}`;
    return { ...meta, key, name, environment, fallback: typeof fallback === 'function' ? fallback() : fallback };
  });
}
