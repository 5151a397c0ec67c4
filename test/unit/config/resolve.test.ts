// SPDX-License-Identifier: Apache-2.0
// Settings: precedence of the sources, accepted values, and the error message and exit code for each rejected value.
import { describe, expect, test } from 'vitest';

import { parseConfig } from '../../../daemon/config/resolve.ts';
import type { Config } from '../../../daemon/config/schema.ts';
import { ExitCode, ExitError } from '../../../daemon/base/errors.ts';
import { missingFile } from '../../support/builders.ts';

interface Given {
  readonly argv?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Text of the file /etc/s.yaml. */
  readonly file?: string;
}

const reader =
  (file: string | undefined) =>
  (path: string): string => {
    if (file === undefined || path !== '/etc/s.yaml') throw missingFile(path);
    return file;
  };

const flagsOf = ({ argv = [], file }: Given): string[] => [...(file === undefined ? [] : ['--config', '/etc/s.yaml']), ...argv];
const configOf = (given: Given): Config => parseConfig(flagsOf(given), given.env ?? {}, reader(given.file));

function errorOf(given: Given): { exitCode: number; message: string } {
  try {
    configOf(given);
  } catch (error) {
    if (error instanceof ExitError) return { exitCode: error.exitCode, message: error.message };
    throw error;
  }
  throw new Error('accepted');
}

const base = ['--source', '/src', '--node', 'n1'];

test('every setting has its default', () => {
  expect(configOf({ argv: base })).toEqual({
    source: '/src',
    node: 'n1',
    podInterfaces: 'auto',
    uplinks: 'auto',
    serviceCidr: [],
    clusterCidr: [],
    detectLocalMode: 'ClusterCIDR',
    masqueradeAll: false,
    acceptForwarded: false,
    nodePortAddresses: 'primary',
    externalIps: 'on',
    snatPorts: [
      { first: 1024, last: 29_999 },
      { first: 61_000, last: 65_535 },
    ],
    healthzBindAddress: { address: '0.0.0.0', port: 10_256 },
    metricsBindAddress: { address: '127.0.0.1', port: 10_249 },
    socketLb: true,
    syncPeriod: 10_000,
    apiServer: [],
    pinPath: '/sys/fs/bpf/sluice',
    socket: '/run/sluice/sluice.sock',
    http: { address: '127.0.0.1', port: 9880 },
    logLevel: 'info',
    logFormat: 'json',
    maxServices: 65_536,
    maxFrontends: 65_536,
    maxBackends: 262_144,
    maxSlots: 1_048_576,
    maxFlows: 262_144,
    maxSocketFlows: 65_536,
  });
});

test('API server URLs are parsed, without duplicates', () => {
  const { apiServer, source } = parseConfig(
    ['--api-server', 'https://10.0.0.1:6443,https://[fd00::1]:6443', '--api-server', 'https://10.0.0.1:6443'],
    {},
    reader(''),
  );
  expect({ source, servers: apiServer.map(({ origin }) => origin) }).toEqual({
    ...{ source: undefined, servers: ['https://10.0.0.1:6443', 'https://[fd00::1]:6443'] },
  });
});

test('the node name defaults to the host name in lower case', () => {
  expect(configOf({ argv: ['--source', '/src'] }).node).toMatch(/^[a-z0-9.-]+$/);
});

describe('a flag takes precedence over the environment, the environment over the file, and the file over the default', () => {
  const file = 'source: /src\nlog-level: warn\n';
  const env = { SLUICE_LOG_LEVEL: 'error' };
  const argv = ['--log-level', 'fatal'];
  test.for([
    { name: 'default', given: { argv: base }, want: 'info' },
    { name: 'file over default', given: { file }, want: 'warn' },
    { name: 'environment over file', given: { file, env }, want: 'error' },
    { name: 'flag over environment', given: { file, env, argv }, want: 'fatal' },
    { name: 'an empty variable counts as not set', given: { file, env: { SLUICE_LOG_LEVEL: '' } }, want: 'warn' },
    { name: 'the last of two equal flags', given: { argv: [...base, ...argv, '--log-level', 'debug'] }, want: 'debug' },
  ])('the log level has the right origin: $name', ({ given, want }) => expect(configOf(given).logLevel).toBe(want));

  test('SLUICE_CONFIG names the settings file', () => {
    expect(parseConfig([], { SLUICE_CONFIG: '/etc/s.yaml' }, reader(file)).source).toBe('/src');
  });
});

describe('values', () => {
  test.for<{ name: string; given: Given; want: Partial<Config> }>([
    { name: 'a comma-separated list', given: { argv: ['--uplinks', 'eth0, eth1,eth0'] }, want: { uplinks: ['eth0', 'eth1'] } },
    { name: 'a repeated list flag', given: { argv: ['--uplinks', 'eth0', '--uplinks=eth1'] }, want: { uplinks: ['eth0', 'eth1'] } },
    { name: 'no devices', given: { argv: ['--uplinks', 'off'], file: 'pod-interfaces: off' }, want: { uplinks: [], podInterfaces: [] } },
    { name: 'a list in a file', given: { file: 'pod-interfaces: [lxc, veth]' }, want: { podInterfaces: ['lxc', 'veth'] } },
    {
      name: 'JSON',
      given: { file: '{"max-slots": 32, "socket-lb": false, "uplinks": ["eth0"]}' },
      want: { maxSlots: 32, socketLb: false },
    },
    { name: 'an empty file', given: { file: '# nothing\n' }, want: { logLevel: 'info' } },
    { name: 'an empty key', given: { file: 'cgroup:\n' }, want: {} },
    { name: 'a number as a string', given: { file: 'socket-group: 007' }, want: { socketGroup: '007' } },
    {
      name: 'off',
      given: { argv: ['--socket-lb', 'off', '--uplinks', 'eth0', '--http', 'off'] },
      want: { socketLb: false, http: undefined },
    },
    { name: 'IPv6 address', given: { argv: ['--http', '[::1]:0'] }, want: { http: { address: '::1', port: 0 } } },
    {
      name: 'both families of CIDR',
      given: { argv: ['--service-cidr', '10.96.0.0/12,fd00::/108'] },
      want: { serviceCidr: ['10.96.0.0/12', 'fd00::/108'] },
    },
    {
      name: 'pod CIDRs in any notation',
      given: { argv: ['--cluster-cidr', '10.244.1.0/16', '--cluster-cidr', 'FD00::/48'] },
      want: { clusterCidr: ['10.244.0.0/16', 'fd00::/48'] },
    },
    {
      name: 'a flag without its optional value',
      given: { argv: ['--masquerade-all', '--uplinks', 'eth0'] },
      want: { masqueradeAll: true, uplinks: ['eth0'] },
    },
    { name: 'the same flag with its value', given: { argv: ['--masquerade-all', 'off'] }, want: { masqueradeAll: false } },
    { name: 'NodePorts on all addresses', given: { argv: ['--node-port-addresses', 'all'] }, want: { nodePortAddresses: 'all' } },
    {
      name: 'NodePorts on addresses within CIDRs',
      given: { file: 'node-port-addresses: [192.168.0.1/24, "::/0"]' },
      want: { nodePortAddresses: ['192.168.0.0/24', '::/0'] },
    },
    { name: 'no external IPs', given: { argv: ['--external-ips', 'off'] }, want: { externalIps: 'off' } },
    {
      name: 'external IPs within CIDRs',
      given: { argv: ['--external-ips', '203.0.113.7/24', '--external-ips', 'fd00::/64'] },
      want: { externalIps: ['203.0.113.0/24', 'fd00::/64'] },
    },
    { name: 'one SNAT range', given: { argv: ['--snat-ports', '2000-2999'] }, want: { snatPorts: [{ first: 2000, last: 2999 }] } },
    { name: 'no health server', given: { argv: ['--healthz-bind-address', 'off'] }, want: { healthzBindAddress: undefined } },
    { name: 'no metrics server', given: { argv: ['--metrics-bind-address', 'off'] }, want: { metricsBindAddress: undefined } },
    {
      name: 'the metrics server on all addresses',
      given: { env: { SLUICE_METRICS_BIND_ADDRESS: '[::]:10249' } },
      want: { metricsBindAddress: { address: '::', port: 10_249 } },
    },
    {
      name: 'a trailing slash',
      given: { argv: ['--pin-path', '/sys/fs/bpf/x/', '--cgroup', '/cg//'] },
      want: { pinPath: '/sys/fs/bpf/x', cgroup: '/cg' },
    },
    {
      name: 'Service variables that Kubernetes sets',
      given: { env: { SLUICE_SERVICE_HOST: '10.0.0.1', SLUICE_X_PORT_80_TCP_ADDR: '10.0.0.1' } },
      want: {},
    },
  ])('a setting has the expected value: $name', ({ given, want }) => {
    expect(configOf({ ...given, argv: [...base, ...(given.argv ?? [])] })).toMatchObject(want);
  });
});

describe('rejected', () => {
  const { usage, config } = ExitCode;
  test.for<{ name: string; given: Given; code: number; want: string }>([
    {
      name: 'a directory and a kubeconfig',
      given: { argv: [...base, '--kubeconfig', '/k'] },
      code: usage,
      want: '--kubeconfig /k names a cluster and --source names a directory: set only one of them',
    },
    {
      name: 'a directory and an API server',
      given: { argv: [...base, '--api-server', 'https://10.0.0.1:6443'] },
      code: usage,
      want: '--api-server https://10.0.0.1:6443 names a cluster and --source names a directory: set only one of them',
    },
    {
      name: 'an API server without scheme',
      given: { argv: ['--api-server', '10.0.0.1:6443'] },
      code: usage,
      want: '--api-server 10.0.0.1:6443 contains "10.0.0.1:6443", which is not an https URL such as https://10.0.0.1:6443',
    },
    {
      name: 'unknown flag',
      given: { argv: ['--pod-interface', 'x'] },
      code: usage,
      want: '--pod-interface is not a flag (did you mean --pod-interfaces?); sluiced --help lists the flags',
    },
    {
      name: 'an argument that is not a flag',
      given: { argv: ['start'] },
      code: usage,
      want: '"start" is not a flag; sluiced --help lists the flags',
    },
    {
      name: 'flag without value',
      given: { argv: ['--source'] },
      code: usage,
      want: '--source requires a value: --source DIR; sluiced --help lists the flags',
    },
    {
      name: 'unknown variable',
      given: { env: { SLUICE_UPLINK: 'eth0' } },
      code: config,
      want: 'the environment variable SLUICE_UPLINK is not a setting (did you mean SLUICE_UPLINKS?)',
    },
    {
      name: 'unknown variable without a similar name',
      given: { env: { SLUICE_WAREHOUSE: '1' } },
      code: config,
      want: 'the environment variable SLUICE_WAREHOUSE is not a setting; sluiced --help lists the settings',
    },
    {
      name: 'unknown key in camel case',
      given: { file: 'source: /src\npodInterfaces: x\n' },
      code: config,
      want: '/etc/s.yaml line 2: "podInterfaces" is not a setting (did you mean pod-interfaces?)',
    },
    {
      name: 'unknown key without a similar name',
      given: { file: 'cnis: x\n' },
      code: config,
      want: '/etc/s.yaml line 1: "cnis" is not a setting; sluiced --help lists the settings',
    },
    {
      name: 'file that is not a mapping',
      given: { file: '- source\n' },
      code: config,
      want: '/etc/s.yaml must contain one mapping from setting names to values',
    },
    { name: 'broken file', given: { file: 'source: "x\n' }, code: config, want: '/etc/s.yaml line 2: a closing quote, bracket or brace' },
    {
      name: 'key twice',
      given: { file: 'node: a\nnode: b\n' },
      code: config,
      want: '/etc/s.yaml line 2: a mapping contains the same key twice',
    },
    { name: 'nested value', given: { file: 'node: {a: b}' }, code: config, want: '/etc/s.yaml line 1: "node" must be a single value' },
    {
      name: 'nested list',
      given: { file: 'uplinks: [{a: b}]' },
      code: config,
      want: '/etc/s.yaml line 1: "uplinks" must be a list of values',
    },
    {
      name: 'missing file',
      given: { argv: ['--config', '/no'] },
      code: config,
      want: 'cannot read the --config file /no: no such file or directory',
    },
    { name: 'empty source', given: { argv: ['--source', ''] }, code: usage, want: '--source "" must not be empty' },
    {
      name: 'Node name',
      given: { argv: [...base, '--node', 'Node_1'] },
      code: usage,
      want: '--node Node_1 is not a valid Node name: use lower-case letters, digits, "-" and ".", at most 253 characters',
    },
    {
      name: 'device name',
      given: { argv: [...base, '--uplinks', 'eth0,much-too-long-name'] },
      code: usage,
      want: '--uplinks eth0,much-too-long-name contains "much-too-long-name", which is not a valid device name',
    },
    {
      name: 'CIDR',
      given: { argv: [...base, '--service-cidr', '10.96/12'] },
      code: usage,
      want: 'contains "10.96/12", which is not a CIDR such as 10.96.0.0/12',
    },
    {
      name: 'host bits',
      given: { argv: [...base, '--service-cidr', '10.97.0.1/12'] },
      code: usage,
      want: 'contains "10.97.0.1/12", which is not in canonical form: use 10.96.0.0/12',
    },
    { name: 'on or off', given: { argv: [...base, '--socket-lb', 'yes'] }, code: usage, want: '--socket-lb yes must be one of on, off' },
    { name: 'empty pin path', given: { argv: [...base, '--pin-path', ''] }, code: usage, want: '--pin-path "" must not be empty' },
    {
      name: 'long socket path',
      given: { argv: [...base, '--socket', `/${'x'.repeat(107)}`] },
      code: usage,
      want: 'is longer than 107 bytes, the maximum length of a socket path',
    },
    { name: 'empty group', given: { argv: [...base, '--socket-group', ''] }, code: usage, want: '--socket-group "" must not be empty' },
    {
      name: 'HTTP port',
      given: { argv: [...base, '--http', '127.0.0.1:70000'] },
      code: usage,
      want: 'must be ADDR:PORT, such as 127.0.0.1:9880 or [::1]:9880, or "off"',
    },
    { name: 'HTTP name', given: { argv: [...base, '--http', 'localhost:80'] }, code: usage, want: 'must be ADDR:PORT' },
    {
      name: 'level',
      given: { file: 'source: /s\nlog-level: loud' },
      code: config,
      want: '/etc/s.yaml line 2: "log-level: loud" must be one of trace, debug',
    },
    {
      name: 'format',
      given: { argv: base, env: { SLUICE_LOG_FORMAT: 'xml' } },
      code: config,
      want: 'SLUICE_LOG_FORMAT=xml must be one of text, json',
    },
    {
      name: 'zero',
      given: { argv: [...base, '--max-services', '0'] },
      code: usage,
      want: '--max-services 0 must be a whole number from 1 to 4194304',
    },
    { name: 'negative', given: { argv: [...base, '--max-frontends=-1'] }, code: usage, want: 'must be a whole number from 1 to 16777216' },
    { name: 'not a whole number', given: { argv: [...base, '--max-backends', '1e3'] }, code: usage, want: 'must be a whole number' },
    { name: 'too few flows', given: { argv: [...base, '--max-flows', '10'] }, code: usage, want: 'must be a whole number from 1024' },
    {
      name: 'too few socket flows',
      given: { argv: [...base, '--max-socket-flows', '10'] },
      code: usage,
      want: 'must be a whole number from 1024',
    },
    {
      name: 'slots',
      given: { argv: [...base, '--max-slots', '1000'] },
      code: usage,
      want: '--max-slots 1000 must be a multiple of 16, the number of slots in one map entry',
    },
    {
      name: 'NodePort addresses mixed',
      given: { argv: [...base, '--node-port-addresses', 'primary,10.0.0.0/8'] },
      code: usage,
      want: 'must be all, primary, or CIDRs such as 192.168.0.0/16',
    },
    { name: 'no NodePort addresses', given: { argv: [...base, '--node-port-addresses', ''] }, code: usage, want: 'must be all, primary' },
    {
      name: 'an invalid cluster CIDR',
      given: { argv: [...base, '--cluster-cidr', '10.244.0.0'] },
      code: usage,
      want: 'contains "10.244.0.0", which is not a CIDR such as 10.244.0.0/16',
    },
    {
      name: 'local mode',
      given: { argv: [...base, '--detect-local-mode', 'BridgeInterface'] },
      code: usage,
      want: 'must be one of ClusterCIDR, NodeCIDR, InterfaceNamePrefix, none',
    },
    {
      name: 'privileged SNAT ports',
      given: { argv: [...base, '--snat-ports', '1-2000'] },
      code: usage,
      want: 'must be one or two ranges within 1024-65535',
    },
    {
      name: 'three SNAT ranges',
      given: { argv: [...base, '--snat-ports', '1024-1,2-3,4-5'] },
      code: usage,
      want: 'must be one or two ranges',
    },
    {
      name: 'SNAT ports that are NodePorts',
      given: { argv: [...base, '--snat-ports', '2000-30000'] },
      code: usage,
      want: 'contains 2000-30000, which overlaps the NodePort range 30000-32767',
    },
    {
      name: 'SNAT ranges that overlap',
      given: { argv: [...base, '--snat-ports', '2000-3000,2500-2600'] },
      code: usage,
      want: 'contains two ranges that overlap',
    },
    {
      name: 'an uplink that is a pod interface',
      given: { argv: [...base, '--uplinks', 'lxc0', '--pod-interfaces', 'lxc'] },
      code: usage,
      want: '--uplinks lxc0 contains "lxc0", which the pod-interfaces prefix "lxc" also matches: a device is either a pod interface or an uplink',
    },
    {
      name: 'auto beside a name',
      given: { argv: [...base, '--uplinks', 'auto', '--uplinks', 'eth0'] },
      code: usage,
      want: '--uplinks auto,eth0 contains "auto", which must be the only value',
    },
    {
      name: 'a socket in the pin path',
      given: { argv: [...base, '--socket', '/sys/fs/bpf/sluice/api.sock'] },
      code: usage,
      want: '--socket /sys/fs/bpf/sluice/api.sock is inside the pin path /sys/fs/bpf/sluice, where a socket cannot be created',
    },
    {
      name: 'no program that translates packets',
      given: { file: 'source: /s\nsocket-lb: off\nuplinks: off\npod-interfaces: []\n' },
      code: config,
      want: '/etc/s.yaml line 2: "socket-lb: off" leaves no program that translates packets: set --pod-interfaces or --uplinks to auto, or turn it on',
    },
    { name: 'all invalid values in one message', given: { argv: ['--max-slots', '1', '--http', 'x'] }, code: usage, want: '; ' },
  ])('a setting is rejected with a message that names it: $name', ({ given, code, want }) => {
    const error = errorOf(given);
    expect(error.message).toContain(want);
    expect(error.exitCode).toBe(code);
  });
});
