// SPDX-License-Identifier: Apache-2.0
// The daemon's settings: one schema, from which flags, environment variables, file keys, help and documentation are generated.
// Defines the type, the default and the help text of each setting, and the checks across settings. Reads nothing but the host
// name: resolve.ts reads the values.
import { hostname } from 'node:os';
import { z } from 'zod';

import { usesDevices } from '../model/device.ts';
import { kebab, type NamedSetting } from './sources.ts';
import {
  apiServers,
  cidrs,
  devices,
  duration,
  externalIps,
  httpAddress,
  looseCidrs,
  nodeName,
  nodePortAddresses,
  nonEmpty,
  oneOf,
  onOff,
  path,
  snatPorts,
  socketPath,
  wholeNumber,
} from './values.ts';

interface SettingMeta {
  /** Placeholder in the help: "DIR". */
  readonly argument: string;
  readonly help: string;
  /** Text that is parsed like a value from any other source; undefined when there is no default. */
  readonly defaultText?: string | (() => string);
  /** For a default that differs by machine: the text that help and documentation show instead. */
  readonly defaultName?: string;
  /** True when the flag may be repeated. */
  readonly isList?: boolean;
  /** True when the value is a path, which may be relative (paths.ts). */
  readonly isPath?: boolean;
  /** Value of a flag that is given without a value. */
  readonly preset?: string;
}

const metas = z.registry<SettingMeta>();
const setting = <S extends z.ZodType>(schema: S, meta: SettingMeta): S => {
  // Two settings may use the same schema. The registry identifies a schema by reference, so each setting registers a clone.
  const own = schema.clone();
  metas.add(own, meta);
  return own;
};

const count = (
  least: number,
  most: number,
  meta: { readonly help: string; readonly defaultValue: number },
): ReturnType<typeof wholeNumber> =>
  setting(wholeNumber(least, most), { argument: 'N', help: meta.help, defaultText: String(meta.defaultValue) });

const million = 2 ** 20;

const slots = wholeNumber(16, 64 * million).refine((value) => value % 16 === 0, {
  error: 'must be a multiple of 16, the number of slots in one map entry',
});

const shape = {
  source: setting(path.optional(), {
    argument: 'DIR',
    isPath: true,
    help: 'directory of Service, EndpointSlice, Node and ServiceCIDR objects in YAML or JSON; it is watched; default: the API server',
  }),
  kubeconfig: setting(path.optional(), {
    argument: 'FILE',
    isPath: true,
    help: 'kubeconfig file with the address of the API server and the credentials; default: the service account of the pod',
  }),
  apiServer: setting(apiServers, {
    argument: 'URL,...',
    help: 'URLs of the API server, tried in order; they replace the server of the kubeconfig or, in a pod, the ClusterIP of the API server',
    defaultText: '',
    isList: true,
  }),
  node: setting(nodeName, {
    argument: 'NAME',
    help: 'name of the Node that this agent serves',
    defaultText: () => hostname().toLowerCase(),
    defaultName: 'the host name',
  }),
  podInterfaces: setting(devices, {
    argument: 'auto|off|PREFIX,...',
    help: 'pod interfaces, to which programs are attached when they appear; auto: each veth or netkit device whose other end is in another network namespace, except uplinks; off: none; or the name prefixes of veth and netkit devices',
    defaultText: 'auto',
    isList: true,
  }),
  uplinks: setting(devices, {
    argument: 'auto|off|DEV,...',
    help: 'devices through which traffic enters and leaves the node; auto: each device through which a route leads, except pod interfaces; off: none; or the names of devices',
    defaultText: 'auto',
    isList: true,
  }),
  serviceCidr: setting(cidrs, {
    argument: 'CIDR,...',
    help: 'Service address ranges in addition to those of ServiceCIDR objects; packets to unallocated addresses are dropped',
    defaultText: '',
    isList: true,
  }),
  clusterCidr: setting(looseCidrs, {
    argument: 'CIDR,...',
    help: 'pod address ranges, used by --detect-local-mode ClusterCIDR',
    defaultText: '',
    isList: true,
  }),
  detectLocalMode: setting(oneOf('ClusterCIDR', 'NodeCIDR', 'InterfaceNamePrefix', 'none'), {
    argument: 'MODE',
    help: 'how to recognise local pods, so that their traffic to ClusterIPs is not masqueraded; ClusterCIDR: by --cluster-cidr; NodeCIDR: by the podCIDRs of the Node; InterfaceNamePrefix: by --pod-interfaces; none: not at all, and no traffic to ClusterIPs is masqueraded',
    defaultText: 'ClusterCIDR',
  }),
  masqueradeAll: setting(onOff, {
    argument: 'on|off',
    help: 'masquerade all traffic to ClusterIPs',
    defaultText: 'off',
    preset: 'on',
  }),
  nodePortAddresses: setting(nodePortAddresses, {
    argument: 'all|primary|CIDR,...',
    help: 'node addresses that serve NodePorts: all except loopback, the primary addresses of the Node, or those within the CIDRs',
    defaultText: 'primary',
    isList: true,
  }),
  externalIps: setting(externalIps, {
    argument: 'on|off|CIDR,...',
    help: 'external IPs of Services that are served: all, none, or those within the CIDRs; whoever may create a Service with an external IP receives the traffic to that address from all nodes',
    defaultText: 'on',
    isList: true,
  }),
  acceptForwarded: setting(onOff, {
    argument: 'on|off',
    help: 'keep one rule in firewalls that drop forwarded packets by policy, as Docker sets it; like the rules of kube-proxy, the rule accepts masqueraded requests, the replies to them, and ICMP errors about both',
    defaultText: 'off',
    preset: 'on',
  }),
  snatPorts: setting(snatPorts, {
    argument: 'FIRST-LAST,...',
    help: 'source ports of masqueraded flows: one or two ranges that overlap neither NodePorts nor net.ipv4.ip_local_port_range',
    defaultText: '1024-29999,61000-65535',
  }),
  socketLb: setting(onOff, {
    argument: 'on|off',
    help: 'translate connect() and related system calls in cgroup socket hooks',
    defaultText: 'on',
  }),
  cgroup: setting(path.optional(), {
    argument: 'DIR',
    isPath: true,
    help: 'cgroup v2 directory to which the socket hooks are attached; default: the cgroup v2 mount',
  }),
  pinPath: setting(path, {
    argument: 'DIR',
    isPath: true,
    help: 'directory on a bpffs in which maps and links are pinned',
    defaultText: '/sys/fs/bpf/sluice',
  }),
  socket: setting(socketPath, {
    argument: 'PATH',
    isPath: true,
    help: 'Unix socket of the gRPC API',
    defaultText: '/run/sluice/sluice.sock',
  }),
  socketGroup: setting(nonEmpty.optional(), { argument: 'NAME', help: 'group that may connect to the API socket; default: root only' }),
  http: setting(httpAddress, {
    argument: 'ADDR:PORT',
    help: 'address of /healthz, /readyz and /metrics; "off" disables them',
    defaultText: '127.0.0.1:9880',
  }),
  healthzBindAddress: setting(httpAddress, {
    argument: 'ADDR:PORT',
    help: 'address of /healthz and /livez as kube-proxy serves them, for load balancers and the kubelet; "off" disables them',
    defaultText: '0.0.0.0:10256',
  }),
  metricsBindAddress: setting(httpAddress, {
    argument: 'ADDR:PORT',
    help: 'address of /metrics, /proxyMode and /healthz where collectors of kube-proxy expect them; "off" disables them',
    defaultText: '127.0.0.1:10249',
  }),
  syncPeriod: setting(duration, {
    argument: 'TIME',
    help: 'interval at which pins, links and maps are compared with the desired state and repaired',
    defaultText: '10s',
  }),
  logLevel: setting(oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal'), {
    argument: 'LEVEL',
    help: 'lowest level that is logged: trace, debug, info, warn, error or fatal',
    defaultText: 'info',
  }),
  logFormat: setting(oneOf('text', 'json'), {
    argument: 'text|json',
    help: 'log format: text for people, json for log collectors',
    defaultText: 'json',
  }),
  maxServices: count(1, 4 * million, { help: 'maximum number of Service ports, counted once per IP family', defaultValue: 65_536 }),
  maxFrontends: count(1, 16 * million, { help: 'maximum number of frontends per IP family', defaultValue: 65_536 }),
  maxBackends: count(1, 16 * million, { help: 'maximum number of backends per IP family', defaultValue: 262_144 }),
  maxSlots: setting(slots, { argument: 'N', help: 'maximum number of backend slots, a multiple of 16', defaultText: String(million) }),
  maxFlows: count(1024, 64 * million, {
    help: 'maximum number of flow entries per IP family, two per flow; the least recently used are evicted',
    defaultValue: 262_144,
  }),
  maxSocketFlows: count(1024, 16 * million, {
    help: 'maximum number of entries per IP family that store the backend and the Service address of translated sockets',
    defaultValue: 65_536,
  }),
};

export const schema = z.object(shape).superRefine((config, context) => {
  const reject = (key: Key, message: string): void => context.addIssue({ code: 'custom', path: [key], message });
  for (const key of ['kubeconfig', 'apiServer'] as const) {
    if (config.source !== undefined && (config[key]?.length ?? 0) > 0)
      reject(key, 'names a cluster and --source names a directory: set only one of them');
  }
  const { podInterfaces, uplinks } = config;
  for (const device of uplinks === 'auto' ? [] : uplinks) {
    const prefix = podInterfaces === 'auto' ? undefined : podInterfaces.find((each) => device.startsWith(each));
    if (prefix !== undefined)
      reject(
        'uplinks',
        `contains "${device}", which the pod-interfaces prefix "${prefix}" also matches: a device is either a pod interface or an uplink`,
      );
  }
  if (`${config.socket}/`.startsWith(`${config.pinPath}/`))
    reject('socket', `is inside the pin path ${config.pinPath}, where a socket cannot be created`);
  if (!config.socketLb && !usesDevices(config)) {
    reject('socketLb', 'leaves no program that translates packets: set --pod-interfaces or --uplinks to auto, or turn it on');
  }
});

/** Every setting, parsed and checked. Immutable. */
export type Config = Readonly<z.output<typeof schema>>;
export type Key = keyof typeof shape;

/** Everything about a setting except its value; used for flags, help and documentation. */
export interface Setting extends NamedSetting {
  readonly key: Key;
}

/** All settings in the order of the help. */
export function allSettings(): readonly Setting[] {
  return (Object.keys(shape) as Key[]).map((key) => {
    const { defaultText, ...meta } = metas.get(shape[key]) as SettingMeta;
    const name = kebab(key);
    const environment = `SLUICE_${name.replaceAll('-', '_').toUpperCase()}`;
    return { ...meta, key, name, environment, defaultText: typeof defaultText === 'function' ? defaultText() : defaultText };
  });
}
