// SPDX-License-Identifier: Apache-2.0
// The daemon's settings: one schema, from which flags, environment names, file keys, help and documentation follow.
// Order: defaults < file < environment < flag. Whatever is unknown or wrong is refused before anything is touched.
// Reads nothing itself but the host's name: argv, environment and the file reader are arguments, so tests can give theirs.
import { hostname } from 'node:os';
import { z } from 'zod';

import { type GivenText, kebab, type NamedSetting, readEnvironment, readFlags, readSettingsFile } from './sources.ts';
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
import { ExitCode, ExitError } from '../base/errors.ts';

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

const schema = z.object(shape).superRefine((config, context) => {
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

export interface ResolvedSetting {
  readonly setting: Setting;
  /** Undefined when nobody gave it and it has no default. */
  readonly text: string | undefined;
  /** "default", "flag --node", "environment SLUICE_NODE", "/etc/sluice.yaml line 3". */
  readonly origin: string;
}

/** What the command line asks for. */
export type Invocation =
  | { readonly action: 'help' | 'version' }
  | { readonly action: 'run'; readonly config: Config }
  | { readonly action: 'check'; readonly config: Config; readonly resolved: readonly ResolvedSetting[] };

type Environment = Readonly<Record<string, string | undefined>>;
type ReadFile = (path: string) => string;

/** All settings in the order of the help. */
export function allSettings(): readonly Setting[] {
  return (Object.keys(shape) as Key[]).map((key) => {
    const { fallback, ...meta } = metas.get(shape[key]) as SettingMeta;
    const name = kebab(key);
    const environment = `SLUICE_${name.replaceAll('-', '_').toUpperCase()}`;
    return { ...meta, key, name, environment, fallback: typeof fallback === 'function' ? fallback() : fallback };
  });
}

/** Reads the command line and all that it names. Throws ExitError; `argv` is without the interpreter and the script. */
export function parseInvocation(argv: readonly string[], env: Environment, readFile: ReadFile): Invocation {
  const settings = allSettings();
  const flags = readFlags(argv, settings);
  if (flags.action === 'help' || flags.action === 'version') return { action: flags.action };
  const file = flags.configFile ?? (env['SLUICE_CONFIG'] || undefined);
  const layers = [file === undefined ? [] : readSettingsFile(file, { settings, readFile }), readEnvironment(env, settings), flags.given];
  const given = new Map(layers.flat().map((each): [string, GivenText] => [each.name, each]));
  const config = check(settings, given);
  return flags.action === 'run'
    ? { action: 'run', config }
    : { action: 'check', config, resolved: settings.map((each) => resolve(each, given)) };
}

/** The settings that would be used: what `sluice` and tests ask for. Throws ExitError. */
export function parseConfig(argv: readonly string[], env: Environment, readFile: ReadFile): Config {
  const invocation = parseInvocation(argv, env, readFile);
  if (!('config' in invocation)) throw new ExitError(ExitCode.usage, `--${invocation.action} asks for no settings`);
  return invocation.config;
}

function resolve(one: Setting, given: ReadonlyMap<string, GivenText>): ResolvedSetting {
  const from = given.get(one.name);
  return { setting: one, text: from?.text ?? one.fallback, origin: from?.origin ?? 'default' };
}

function check(settings: readonly Setting[], given: ReadonlyMap<string, GivenText>): Config {
  const texts = Object.fromEntries(settings.map((each) => [each.key, resolve(each, given).text]));
  const result = schema.safeParse(texts);
  if (result.success) return result.data;
  const sentences = result.error.issues.map((issue) => {
    const one = settings.find((each) => each.key === issue.path[0]);
    return one === undefined ? issue.message : sentenceOf(one, given.get(one.name), issue.message);
  });
  const isUsage = result.error.issues.some((issue) => {
    const from = given.get(kebab(String(issue.path[0])));
    return from === undefined || from.isFlag;
  });
  throw new ExitError(isUsage ? ExitCode.usage : ExitCode.config, [...new Set(sentences)].join('; '));
}

function sentenceOf(one: Setting, from: GivenText | undefined, problem: string): string {
  if (from !== undefined) return `${from.shown} ${problem}`;
  if (one.fallback !== undefined) return `the default of --${one.name}, "${one.fallback}", ${problem}: give --${one.name}`;
  return `--${one.name} ${one.argument} is required (or ${one.environment}, or "${one.name}:" in the --config file)`;
}
